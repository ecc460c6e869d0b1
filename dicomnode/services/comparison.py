"""Compares what a shadow made of a series with what the active version made of it, once both have ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TypeVar

import pydicom
import structlog
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed, NotFound
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.comparison import Comparison, Ended, Summary, summarize
from dicomnode.model.job import Job
from dicomnode.model.result import ResultRole
from dicomnode.results.compare_seg import compare_segments
from dicomnode.results.compare_sr import compare_reports
from dicomnode.store import comparisons, results, runs
from dicomnode.store.comparisons import Compared, Due
from dicomnode.store.database import Database, Transaction
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

_Said = TypeVar("_Said")
_FRACTIONAL = "FRACTIONAL"


class ComparisonService:
    """Takes up each pair of jobs that have ended, and writes down how they differ."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database, self._objects = database, objects

    def tick(self) -> int:
        """Compare one pair; returns how many that were."""
        with self._database.read() as tx:
            due = comparisons.next_due(tx)
            if due is None:
                return 0
            ends = (_ended(tx, due.job), _ended(tx, due.shadow))
            made = (results.of_job(tx, due.job.id), results.of_job(tx, due.shadow.id))
        comparison = self._compare(due, ends, made)
        with self._database.begin() as tx:
            comparisons.settle(tx, due, comparison.model_dump(mode="json"))
        log.info("shadow.compared", job=due.job.id, shadow=due.shadow.id, notes=len(comparison.notes))
        return 1

    def _compare(self, due: Due, ends: tuple[Ended, Ended], made: tuple[_Results, _Results]) -> Comparison:
        same_input = due.job.input_digest == due.shadow.input_digest
        outcome = Comparison(active=ends[0], shadow=ends[1], same_input=same_input)
        if not outcome.both_done:
            return outcome
        notes: list[str] = []
        segments = self._of_role(ResultRole.SEG, made, compare_segments, notes)
        reports = self._of_role(ResultRole.SR, made, compare_reports, notes)
        return outcome.model_copy(
            update={
                "segments": segments or (),
                "numbers": reports.numbers if reports else (),
                "findings": reports.findings if reports else (),
                "answers": reports.answers if reports else (),
                "notes": tuple(notes),
            }
        )

    def _of_role(
        self,
        role: ResultRole,
        made: tuple[_Results, _Results],
        compare: Callable[[Dataset, Dataset], _Said],
        notes: list[str],
    ) -> _Said | None:
        """What the comparison of the results of a role says, where both sides have one; else a note."""
        try:
            active, shadow = (self._first(role, each) for each in made)
            if active is not None and shadow is not None:
                return compare(active, shadow)
            if active is not None or shadow is not None:
                notes.append(f"only the {'shadow' if active is None else 'active version'} has a {role}")
        except NotFound:
            notes.append(f"a {role} has left this node and cannot be compared")
        except (*UNREADABLE, GateFailed) as error:
            log.error("shadow.not_compared", role=role, error=type(error).__name__)
            notes.append(f"a {role} cannot be read: {type(error).__name__}")
        return None

    def _first(self, role: ResultRole, made: _Results) -> Dataset | None:
        """The first of a role, whatever its form; not a map of probabilities."""
        for of_role, sha256 in made:
            if of_role is role:
                ds = pydicom.dcmread(BytesIO(self._objects.read(sha256)))
                if ds.get("SegmentationType") != _FRACTIONAL:
                    return ds
        return None


_Results = Sequence[tuple[ResultRole, str]]


def find_comparisons(
    database: Database, pipeline: str, version: str | None, SeriesInstanceUID: str | None
) -> list[Compared]:
    """The comparisons of a pipeline's shadow versions, the newest first."""
    with database.read() as tx:
        return comparisons.find(tx, pipeline, version, SeriesInstanceUID)


def summary_of(found: Sequence[Compared]) -> Summary:
    """What those that are done come to."""
    done = [(each.SeriesInstanceUID, comparison_of(each)) for each in found]
    return summarize([(uid, comparison) for uid, comparison in done if comparison is not None])


def comparison_of(compared: Compared) -> Comparison | None:
    """What a row says; None until both jobs have ended."""
    return None if compared.found is None else Comparison.model_validate(compared.found)


def _ended(tx: Transaction, job: Job) -> Ended:
    return Ended(state=job.state, code=job.reason_code, seconds=runs.seconds(tx, job.id))
