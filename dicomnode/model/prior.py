"""Priors: earlier series of the same patient that a job is given, and how it is known whose they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

PRIOR_FACTS: dict[str, object] = {
    **dict.fromkeys(("modality", "description", "body_part", "study_description", "study_date"), ""),
    "instances": 1,
    "days_before": 1,
}
"""What the `when` of a prior can ask about a series, beside the facts of the job's own (`series`)."""

PRIOR_MISSING = "PRIOR_MISSING"
"""Why a job is refused to which a prior is required that nobody has."""


def waiting_for(names: Iterable[str], archive: str = "") -> str:
    """What a job waits for, in words."""
    return f"waiting for prior {', '.join(names)}{f' from {archive}' if archive else ''}"


class PriorState(StrEnum):
    """Where the search for one prior of one job stands. Nothing changes once it is over."""

    SOUGHT = "sought"
    FOUND = "found"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Search:
    """The search for one prior that somebody has taken up; `over`: no more time is left for another one."""

    id: int
    job_id: int
    name: str
    remaining_s: float

    @property
    def over(self) -> bool:
        """Whether its time limit is reached."""
        return self.remaining_s <= 0


@dataclass(frozen=True, slots=True)
class FrozenPrior:
    """One series that a job is given: the input set of that generation. `place` counts from 1, the latest."""

    name: str
    place: int
    series_id: int
    generation: int


@dataclass(frozen=True, slots=True)
class Patient:
    """Who a series is of, as its headers or an archive tell (PS3.3 C.7.1.1); "" is not told."""

    PatientID: str
    IssuerOfPatientID: str = ""
    PatientBirthDate: str = ""
    PatientSex: str = ""

    def contradicts(self, other: Patient) -> bool:
        """Whether what both tell rules out that they are one and the same."""
        return self.PatientID != other.PatientID or any(
            mine and yours and mine != yours
            for mine, yours in (
                (self.IssuerOfPatientID, other.IssuerOfPatientID),
                (self.PatientBirthDate, other.PatientBirthDate),
                (self.PatientSex, other.PatientSex),
            )
        )

    def is_same(self, other: Patient) -> bool:
        """Whether they are surely one and the same.

        An ID means something within its issuer alone: where one of them does not tell the issuer, both have
        to tell the same date of birth.
        """
        if not self.PatientID or self.contradicts(other):
            return False
        if self.IssuerOfPatientID == other.IssuerOfPatientID:
            return True
        return bool(self.PatientBirthDate) and self.PatientBirthDate == other.PatientBirthDate


@dataclass(frozen=True, slots=True)
class Candidate:
    """A complete series that may be a prior, as the catalog or an archive lists it.

    `StudyDate` and `StudyTime` as DICOM writes them; `instances` is 0 where it is not told.
    """

    patient: Patient
    StudyInstanceUID: str
    SeriesInstanceUID: str
    StudyDate: str
    StudyTime: str = ""
    StudyDescription: str = ""
    Modality: str = ""
    SeriesDescription: str = ""
    BodyPartExamined: str = ""
    instances: int = 0

    @property
    def order(self) -> tuple[str, str, int, str]:
        """The greatest is the latest; within a study it is the one with the most instances."""
        return self.StudyDate, self.StudyTime, self.instances, self.SeriesInstanceUID
