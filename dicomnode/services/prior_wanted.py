"""What a search for a prior is for: which studies and series may be it, and which are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from dicomnode.model.manifest import Prior
from dicomnode.model.prior import Candidate, Patient
from dicomnode.rules.rule import Rule

_FIRST_DAY = "00010101"
_UNKNOWN = "24"
"""The time of a study that does not tell it: of two on one day it is not known to be the earlier."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one search is for: the manifest's words, and the header of the series that it is a prior to."""

    prior: Prior
    patient: Patient
    StudyInstanceUID: str
    at: tuple[str, str]
    facts: Mapping[str, object]

    @property
    def first(self) -> str:
        """The first StudyDate that will do."""
        day, days = _day(self.at[0]), self.prior.within_days
        if day is None or days is None:
            return _FIRST_DAY
        return f"{date.fromordinal(max(1, day.toordinal() - days)):%Y%m%d}".zfill(8)

    def may_be_in(self, study: Candidate) -> bool:
        """Whether a study is another one, an earlier one, recent enough, and not of somebody else."""
        return (
            study.StudyInstanceUID != self.StudyInstanceUID
            and not study.patient.contradicts(self.patient)
            and self.first <= study.StudyDate
            and _moment(study.StudyDate, study.StudyTime or _UNKNOWN) < _moment(*self.at)
        )

    def suits(self, candidate: Candidate) -> bool:
        """Whether a series is what the manifest asks for."""
        then, now = _day(candidate.StudyDate), _day(self.at[0])
        if then is None or now is None or not self.may_be_in(candidate):
            return False
        told = {
            "modality": candidate.Modality,
            "description": candidate.SeriesDescription,
            "body_part": candidate.BodyPartExamined,
            "study_description": candidate.StudyDescription,
            "study_date": candidate.StudyDate,
            "days_before": (now - then).days,
            **({"instances": candidate.instances} if candidate.instances else {}),
        }
        return Rule(self.prior.when).matches({"prior": told, "series": self.facts})


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


def _moment(day: str, at: str) -> str:
    """Day and time so that they can be compared, to the second (PS3.5 6.2, DA and TM)."""
    return f"{day}{at[:6].ljust(6, '0')}"
