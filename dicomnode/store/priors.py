"""The searches for priors: the only place where their state is written.

A search belongs to a held job, and is over once its job is not held any more. The row of the job is locked
first, so that the last search to end is known to be the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, insert, not_, select, update

from dicomnode.errors import LeaseLost
from dicomnode.model.job import JobState
from dicomnode.model.prior import Candidate, FrozenPrior, Patient, PriorState, Search
from dicomnode.model.topic import Topic
from dicomnode.store import completions
from dicomnode.store.clock import Now, read_clock
from dicomnode.store.database import Transaction
from dicomnode.store.schema import instance, job, prior, prior_series, series, study
from dicomnode.store.signals import announce


def seek(tx: Transaction, job_id: int, names: Iterable[str]) -> None:
    """Begin a search for each prior of a job."""
    for name in names:
        values = {"state": PriorState.SOUGHT, "begun_at": Now(), "not_before": Now()}
        tx.execute(insert(prior).values(job_id=job_id, name=name, **values))
        announce(tx, Topic.PRIOR)


def seek_again(tx: Transaction, job_id: int) -> None:
    """Begin anew what was searched for in vain."""
    absent = and_(prior.c.job_id == job_id, prior.c.state == PriorState.ABSENT)
    anew = {"state": PriorState.SOUGHT, "note": None, "begun_at": Now(), "not_before": Now()}
    tx.execute(update(prior).where(absent).values(**anew))
    announce(tx, Topic.PRIOR)


def begin_anew(tx: Transaction) -> None:
    """What is sought has all its time before it."""
    anew = {"begun_at": Now(), "not_before": Now()}
    tx.execute(update(prior).where(prior.c.state == PriorState.SOUGHT).values(**anew))


def sought(tx: Transaction, job_id: int) -> list[str]:
    """The priors of a job that are still searched for."""
    rows = select(prior.c.name).where(prior.c.job_id == job_id, prior.c.state == PriorState.SOUGHT)
    return list(tx.execute(rows.order_by(prior.c.id)).scalars())


def any_due(tx: Transaction) -> bool:
    """True where a search can be taken up; locks nothing."""
    due = _searches().where(prior.c.not_before <= Now()).with_only_columns(prior.c.id)
    return tx.execute(due.limit(1)).first() is not None


def claim(tx: Transaction, lease_s: float, limit_s: float) -> Search | None:
    """Take up the search that is due and the oldest; nobody else does within `lease_s`."""
    found = _searches().where(prior.c.not_before <= Now()).order_by(prior.c.not_before)
    row = tx.execute(found.limit(1).with_for_update(of=prior, skip_locked=True)).first()
    if row is None:
        return None
    tx.execute(update(prior).where(prior.c.id == row.id).values(not_before=Now(lease_s)))
    return _search(tx, row, limit_s)


def overdue(tx: Transaction, limit_s: float) -> list[Search]:
    """The searches that have gone on for longer than `limit_s`, whoever works on them."""
    rows = tx.execute(_searches().where(prior.c.begun_at <= Now(-limit_s))).all()
    return [_search(tx, row, limit_s) for row in rows]


def extend(tx: Transaction, search: Search, lease_s: float) -> None:
    """Its owner still works. Raises LeaseLost where nobody waits for it any more."""
    if tx.execute(_searches().where(prior.c.id == search.id)).first() is None:
        raise LeaseLost("prior", search.id)
    tx.execute(update(prior).where(prior.c.id == search.id).values(not_before=Now(lease_s)))


def postpone(tx: Transaction, search: Search, note: str, wait_s: float) -> None:
    """Nothing came of it so far; it is gone on with after `wait_s`."""
    still = and_(prior.c.id == search.id, prior.c.state == PriorState.SOUGHT)
    tx.execute(update(prior).where(still).values(note=note, not_before=Now(wait_s)))


def settle(tx: Transaction, search: Search, found: Sequence[tuple[int, int]], note: str) -> bool:
    """End a search with the series, and their generations, that were found, the latest first.

    True where it was the last one of its job, whose row is locked from here on. Raises LeaseLost where the
    search was over.
    """
    tx.execute(select(job.c.id).where(job.c.id == search.job_id).with_for_update())
    if tx.execute(_searches().where(prior.c.id == search.id)).first() is None:
        raise LeaseLost("prior", search.id)
    state = PriorState.FOUND if found else PriorState.ABSENT
    tx.execute(update(prior).where(prior.c.id == search.id).values(state=state, note=note))
    for place, (series_id, generation) in enumerate(found, start=1):
        values = {"prior_id": search.id, "place": place, "series_id": series_id, "generation": generation}
        tx.execute(insert(prior_series).values(**values))
    return not sought(tx, search.job_id)


def give_up(tx: Transaction, job_id: int, note: str) -> bool:
    """End what is still searched for; True where there was anything."""
    tx.execute(select(job.c.id).where(job.c.id == job_id).with_for_update())
    still = and_(prior.c.job_id == job_id, prior.c.state == PriorState.SOUGHT)
    ended = update(prior).where(still).values(state=PriorState.ABSENT, note=note)
    return tx.execute(ended).rowcount > 0


def frozen(tx: Transaction, job_id: int) -> list[FrozenPrior]:
    """What a job is given, in the order of its searches, the latest of each first."""
    rows = tx.execute(
        select(prior.c.name, prior_series.c.place, prior_series.c.series_id, prior_series.c.generation)
        .join_from(prior, prior_series)
        .where(prior.c.job_id == job_id)
        .order_by(prior.c.id, prior_series.c.place)
    )
    return [FrozenPrior(row.name, row.place, row.series_id, row.generation) for row in rows]


def notes(tx: Transaction, job_id: int) -> dict[str, str]:
    """What is known of each search of a job, by its name."""
    rows = tx.execute(select(prior.c.name, prior.c.note).where(prior.c.job_id == job_id))
    return {row.name: row.note or "" for row in rows}


def held_candidates(
    tx: Transaction, PatientID: str, first: str, last: str, not_in: str
) -> dict[Candidate, tuple[int, int]]:
    """The complete series of that ID in studies of `first` to `last` (DA), with their ids and generations.

    None of the study `not_in`, of a study that names two patients, or whose bytes have begun to leave.
    """
    leaving = exists().where(instance.c.series_id == series.c.id, instance.c.released_at.is_not(None))
    rows = tx.execute(
        select(series, study)
        .join_from(series, study)
        .where(
            study.c.PatientID == PatientID,
            study.c.StudyDate.between(first, last),
            study.c.StudyInstanceUID != not_in,
            not_(study.c.patient_conflict),
            series.c.completed_at.is_not(None),
            not_(leaving),
        )
    )
    return {
        Candidate(
            Patient(
                PatientID,
                PatientBirthDate=row.PatientBirthDate,
                PatientSex=row.PatientSex,
            ),
            row.StudyInstanceUID,
            row.SeriesInstanceUID,
            row.StudyDate,
            row.StudyTime,
            row.StudyDescription,
            row.Modality,
            row.SeriesDescription,
            row.BodyPartExamined,
            row.instance_count,
        ): (row.id, row.generation)
        for row in rows
    }


def held_series(tx: Transaction, StudyInstanceUID: str, SeriesInstanceUID: str) -> int | None:
    """The id of a series, complete or not; None where nothing of it has arrived."""
    return tx.execute(_places(StudyInstanceUID, SeriesInstanceUID)).scalar()


def complete_fetched(
    tx: Transaction, StudyInstanceUID: str, SeriesInstanceUID: str, listed: frozenset[str], note: str
) -> tuple[int, int] | None:
    """The id and the generation of a series that has all that is listed; where it is open, it is completed.

    None where instances are missing, or where others have come for it and it is not known whether all have.
    """
    row = tx.execute(
        _places(StudyInstanceUID, SeriesInstanceUID)
        .add_columns(series.c.generation, series.c.completed_at)
        .with_for_update(of=series)
    ).first()
    if row is None:
        return None
    here = tx.execute(select(instance.c.SOPInstanceUID).where(instance.c.series_id == row.id)).scalars()
    held = set(here)
    if not listed <= held or (row.completed_at is None and held != listed):
        return None
    if row.completed_at is None:
        completions.complete_listed(tx, row.id, note)
    return row.id, row.generation


def _places(StudyInstanceUID: str, SeriesInstanceUID: str) -> Select[Any]:
    return (
        select(series.c.id)
        .join_from(series, study)
        .where(
            study.c.StudyInstanceUID == StudyInstanceUID,
            series.c.SeriesInstanceUID == SeriesInstanceUID,
            series.c.instance_count > 0,
        )
    )


def _searches() -> Select[Any]:
    return (
        select(prior.c.id, prior.c.job_id, prior.c.name, prior.c.begun_at)
        .join_from(prior, job)
        .where(_is_sought())
    )


def _is_sought() -> ColumnElement[bool]:
    return and_(prior.c.state == PriorState.SOUGHT, job.c.state == JobState.HELD)


def _search(tx: Transaction, row: Any, limit_s: float) -> Search:
    gone_s = (read_clock(tx) - row.begun_at).total_seconds()
    return Search(row.id, row.job_id, row.name, limit_s - gone_s)
