"""Which results are found and retrieved beside what was received."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import update

from dicomnode.model.instance import StoredObject
from dicomnode.model.job import Job
from dicomnode.model.query import Level, Query, Single
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.store import catalog, completions, jobs, leases, results
from dicomnode.store.clock import Now
from dicomnode.store.database import Database, Transaction
from dicomnode.store.find import find
from dicomnode.store.retrieval import first_instance, stored_instances, were_removed
from dicomnode.store.schema import instance, job, result

from .builders import arrival, complete_series, encoded, new_job

RECEIVED = ["1.2.3.4.1", "1.2.3.4.2"]


def made(number: int, role: ResultRole = ResultRole.SEG, **changes: object) -> EncodedResult:
    searched = {"Modality": role.value, "SeriesNumber": str(900 + number), "InstanceNumber": "1"}
    return replace(encoded(number), role=role, searched=searched, **changes)


def ended(tx: Transaction, *instances: EncodedResult, key: str = "key") -> Job:
    """The next job, done with these results."""
    claimed = leases.claim(tx, "w1", 30)
    assert claimed is not None, key
    leases.finish(tx, claimed.lease, kept(*instances))
    return jobs.get(tx, claimed.id)


def kept(*instances: EncodedResult) -> list[results.Stored]:
    return [
        (each.instance, StoredObject(each.SOPInstanceUID.encode().hex().zfill(64), 5)) for each in instances
    ]


@pytest.fixture
def completion_id(database: Database) -> int:
    return complete_series(database, 2)


@pytest.fixture
def done(database: Database, completion_id: int) -> Job:
    """A Segmentation and a report of a series of two."""
    with database.begin() as tx:
        new_job(tx, completion_id)
        return ended(tx, made(1), made(2, ResultRole.SR))


def listed(database: Database, **matches: str) -> list[str]:
    """What a search lists, which has to be what a retrieval gives, and what the study counts."""
    keys = {keyword: Single(value) for keyword, value in matches.items()}
    counts = ("NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances", "NumberOfStudyRelatedSeries")
    with database.read() as tx:
        instances = list(find(tx, Query(Level.IMAGE, keys, counts)))
        of_series = list(find(tx, Query(Level.SERIES, keys, counts)))
        retrieved = [each.SOPInstanceUID for each in stored_instances(tx, StudyInstanceUID="1.2.3")]
    found = [row["SOPInstanceUID"] for row in instances]
    if not matches:
        assert found == retrieved
        assert {row["NumberOfStudyRelatedInstances"] for row in instances} == {len(found)}
        assert {row["NumberOfStudyRelatedSeries"] for row in instances} == {len(of_series)}
        assert sum(row["NumberOfSeriesRelatedInstances"] for row in of_series) == len(found)
        assert {row["SeriesInstanceUID"] for row in instances} == {
            row["SeriesInstanceUID"] for row in of_series
        }
    return found


@pytest.mark.usefixtures("done")
def test_results_are_listed_after_what_was_received_at_every_level(database: Database):
    assert listed(database) == [*RECEIVED, "2.25.1.1", "2.25.2.1"]
    assert listed(database, Modality="SR") == ["2.25.2.1"]
    assert listed(database, SeriesInstanceUID="2.25.1", SeriesNumber="901") == ["2.25.1.1"]
    assert listed(database, SOPInstanceUID="2.25.2.1") == ["2.25.2.1"]
    with database.read() as tx:
        keys = ("ModalitiesInStudy", "NumberOfStudyRelatedInstances")
        (study,) = find(tx, Query(Level.STUDY, {"ModalitiesInStudy": Single("SR")}, keys))
        (patient,) = find(tx, Query(Level.PATIENT, {}, ("NumberOfPatientRelatedSeries",)))
        first = first_instance(tx, {"SeriesInstanceUID": "2.25.2"})
    assert set(study["ModalitiesInStudy"].split("\\")) == {"MR", "SEG", "SR"}
    assert (study["NumberOfStudyRelatedInstances"], patient["NumberOfPatientRelatedSeries"]) == (4, 3)
    assert first is not None
    assert (first.StudyInstanceUID, first.size) == ("1.2.3", 5)


@pytest.mark.usefixtures("done")
def test_pages_go_from_what_was_received_on_to_results(database: Database):
    def page(level: Level, offset: int, limit: int | None) -> list[str]:
        with database.read() as tx:
            rows = find(tx, Query(level, {}, (), offset, limit))
            return [row["SOPInstanceUID" if level is Level.IMAGE else "SeriesInstanceUID"] for row in rows]

    every = page(Level.IMAGE, 0, None)
    assert [page(Level.IMAGE, offset, 2) for offset in range(6)] == [every[n : n + 2] for n in range(6)]
    assert [page(Level.SERIES, offset, 1) for offset in range(4)] == [["1.2.3.4"], ["2.25.1"], ["2.25.2"], []]


def in_shadow(tx: Transaction, done: Job) -> None:
    tx.execute(update(job).where(job.c.id == done.id).values(shadow_of=done.id))


def of_another_form(tx: Transaction, _: Job) -> None:
    tx.execute(update(result).values(listed=False))


def removed(tx: Transaction, _: Job) -> None:
    tx.execute(update(result).values(removed_at=Now()))


def started_again(tx: Transaction, done: Job) -> None:
    """As a job whose notice was given, and that runs now."""
    tx.execute(update(job).where(job.c.id == done.id).values(state="leased", fence=done.fence + 1))


@pytest.mark.parametrize("what", [in_shadow, of_another_form, removed, started_again])
def test_what_is_not_good_to_be_seen_is_not_listed(
    database: Database, done: Job, what: Callable[[Transaction, Job], None]
):
    with database.begin() as tx:
        what(tx, done)
    assert listed(database) == RECEIVED
    assert listed(database, Modality="SEG") == []
    with database.read() as tx:
        assert first_instance(tx, {"SeriesInstanceUID": "2.25.1"}) is None
        assert were_removed(tx, {"SOPInstanceUID": "2.25.1.1"}) == (what is removed)


def test_a_result_vanishes_in_the_moment_its_rejection_note_counts_and_the_note_is_not_listed(
    database: Database, done: Job
):
    with database.begin() as tx:
        catalog.add_instance(tx, arrival(3))
        completions.complete_ordered(tx, "1.2.3.4")
        (again,) = completions.unrouted(tx, 1000)[-1:]
        new_job(tx, again.id, "later")
        claimed = leases.claim(tx, "w1", 30)
    assert claimed is not None
    assert claimed.generation == done.generation + 1
    assert listed(database)[3:] == ["2.25.1.1", "2.25.2.1"], "while the later run goes on"
    with database.begin() as tx:
        leases.finish(tx, claimed.lease, kept(made(3, ResultRole.WITHDRAWAL), made(4)))
    assert listed(database)[3:] == ["2.25.4.1"]
    with database.begin() as tx:
        tx.execute(update(result).where(result.c.SOPInstanceUID == "2.25.4.1").values(removed_at=Now()))
    assert listed(database)[3:] == [], "what was rejected does not come back"


def test_a_shadow_and_another_pipeline_take_nothings_place(database: Database, completion_id: int, done: Job):
    with database.begin() as tx:
        new_job(tx, completion_id, "shadow", shadow_of=done.id)
        ended(tx, made(3))
        new_job(tx, completion_id, "other", pipeline="lungs")
        ended(tx, made(4))
    assert listed(database) == [*RECEIVED, "2.25.1.1", "2.25.2.1", "2.25.4.1"]


def test_the_notice_of_a_held_job_is_listed_until_the_job_goes_on(database: Database, completion_id: int):
    with database.begin() as tx:
        new_job(tx, completion_id)
        claimed = leases.claim(tx, "w1", 30)
        assert claimed is not None
        leases.hold(tx, claimed.lease, "GATE", "not what was computed")
        jobs.give_notice(tx, jobs.get(tx, claimed.id), kept(made(1, ResultRole.NOTICE)))
    assert listed(database) == [*RECEIVED, "2.25.1.1"]
    with database.begin() as tx:
        jobs.release(tx, claimed.id)
    assert listed(database) == RECEIVED
    with database.begin() as tx:
        ended(tx, made(2))
    assert listed(database) == [*RECEIVED, "2.25.2.1"]


@pytest.mark.usefixtures("done")
def test_what_an_archive_sent_back_is_listed_once_as_it_was_received(database: Database):
    back = arrival(1, "2.25.1")
    with database.begin() as tx:
        catalog.add_instance(tx, replace(back, series={**back.series, "Modality": "SEG"}))
    assert back.SOPInstanceUID == "2.25.1.1"
    assert listed(database) == [*RECEIVED, "2.25.1.1", "2.25.2.1"]
    with database.begin() as tx:
        [stored] = stored_instances(tx, SOPInstanceUID="2.25.1.1")
        assert stored.sha256 == back.stored.sha256
        tx.execute(update(instance).where(instance.c.SOPInstanceUID == "2.25.1.1").values(removed_at=Now()))
    with database.read() as tx:
        [stored] = stored_instances(tx, SOPInstanceUID="2.25.1.1")
    assert stored.sha256 != back.stored.sha256, "the result's own bytes are here still"


@pytest.mark.usefixtures("done")
def test_what_is_sent_back_while_a_search_goes_on_is_in_its_answer(database: Database):
    with database.read() as tx:
        rows = find(tx, Query(Level.IMAGE, {}, ()))
        found = [next(rows)]
        with database.begin() as other:
            catalog.add_instance(other, arrival(1, "2.25.1"))
        found += rows
    assert [row["SOPInstanceUID"] for row in found] == [*RECEIVED, "2.25.1.1", "2.25.2.1"]


def test_of_a_series_of_results_the_part_that_came_back_counts_once(database: Database, completion_id: int):
    images = [made(1, ResultRole.DERIVED, SOPInstanceUID=f"2.25.1.{n}") for n in (1, 2, 3)]
    with database.begin() as tx:
        new_job(tx, completion_id)
        ended(tx, *images)
    assert listed(database) == [*RECEIVED, "2.25.1.1", "2.25.1.2", "2.25.1.3"]
    with database.begin() as tx:
        catalog.add_instance(tx, arrival(2, "2.25.1"))
    assert listed(database) == [*RECEIVED, "2.25.1.2", "2.25.1.1", "2.25.1.3"]
