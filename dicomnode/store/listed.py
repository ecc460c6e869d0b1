"""Which results are found and retrieved beside what was received: read from their rows and their jobs'.

A result counts while its job stands as it did when the result was fixed, and until a later run of the
pipeline on the series has told something else. It is listed as long as its bytes are here. An instance that
was received takes the place of the result that it is: an archive may send back what it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, exists, func, not_, select

from dicomnode.model.job import SETTLED, JobState
from dicomnode.store.schema import instance, job, result, series, study

_TOLD = sorted({*SETTLED, JobState.HELD})
"""What a gate stopped is no result: a job that is held has told at most a notice that it is."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Results `made`, each by a job `of`: two tables, or aliases of them, that a statement reads."""

    made: FromClause = result
    of: FromClause = job

    @classmethod
    def apart(cls) -> Listed:
        """For a statement within another."""
        return cls(result.alias(), job.alias())

    @property
    def rows(self) -> FromClause:
        """Both, joined."""
        return self.made.join(self.of, self.of.c.id == self.made.c.job_id)

    @property
    def counts(self) -> ColumnElement[bool]:
        """Nothing has taken their place, nobody withdrew them, and they are no shadow's."""
        made, of, other, later = self.made, self.of, job.alias(), result.alias()
        replaced = exists().where(
            other.c.series_id == of.c.series_id,
            other.c.id != of.c.id,
            other.c.pipeline == of.c.pipeline,
            other.c.generation >= of.c.generation,
            other.c.shadow_of.is_(None),
            later.c.job_id == other.c.id,
            later.c.id > made.c.id,
        )
        return and_(
            made.c.listed,
            of.c.shadow_of.is_(None),
            of.c.state.in_(_TOLD),
            of.c.fence == made.c.fence,
            not_(replaced.correlate(made, of)),
        )

    @property
    def found(self) -> ColumnElement[bool]:
        """They are listed: they count, their bytes are here, and they were not received."""
        return and_(self.counts, _is_here(self.made))

    @property
    def retrieved(self) -> ColumnElement[bool]:
        """Their bytes are given: what was received and has left the node may still be here as a result."""
        came = instance.alias()
        received = exists().where(
            came.c.SOPInstanceUID == self.made.c.SOPInstanceUID, came.c.removed_at.is_(None)
        )
        return and_(self.counts, self.made.c.removed_at.is_(None), not_(received.correlate(self.made)))

    def has_own_series(self, of: FromClause = study) -> ColumnElement[bool]:
        """Their series is none that was received in the study."""
        came = series.alias()
        received = exists().where(
            came.c.study_id == of.c.id, came.c.SeriesInstanceUID == self.made.c.SeriesInstanceUID
        )
        return not_(received.correlate(of, self.made))

    @property
    def begins_series(self) -> ColumnElement[bool]:
        """They are the first of their series."""
        earlier = result.alias()
        first = exists().where(
            *_same_series(earlier, self.made), earlier.c.id < self.made.c.id, _is_here(earlier)
        )
        return not_(first.correlate(self.made))

    @property
    def of_series(self) -> ColumnElement[int]:
        """How many there are in the series of each."""
        each = result.alias()
        counted = select(func.count(each.c.id)).where(*_same_series(each, self.made), _is_here(each))
        return counted.correlate(self.made).scalar_subquery()

    def within(self, of: FromClause, *columns: ColumnElement[Any]) -> Select[Any]:
        """What is listed in a study."""
        of_study = self.made.c.StudyInstanceUID == of.c.StudyInstanceUID
        return select(*columns).select_from(self.rows).where(of_study, self.found)


def beside_received() -> ColumnElement[int]:
    """How many results are listed in a series of which others were received."""
    more = Listed.apart()
    of_series = more.made.c.SeriesInstanceUID == series.c.SeriesInstanceUID
    counted = more.within(study, func.count(more.made.c.id)).where(of_series)
    return counted.correlate(study, series).scalar_subquery()


def _same_series(one: FromClause, other: FromClause) -> tuple[ColumnElement[bool], ...]:
    """A run gives each of its series a UID of its own."""
    return one.c.job_id == other.c.job_id, one.c.SeriesInstanceUID == other.c.SeriesInstanceUID


def _is_here(made: FromClause) -> ColumnElement[bool]:
    came = instance.alias()
    received = exists().where(came.c.SOPInstanceUID == made.c.SOPInstanceUID)
    return and_(made.c.removed_at.is_(None), not_(received.correlate(made)))
