"""What a job yields: encoded instances that never change once they are committed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from os import PathLike


class ResultRole(StrEnum):
    """What an instance is for; part of its UID's derivation. The order is that of the SeriesNumbers."""

    SEG = "SEG"
    SR = "SR"
    PARAMETRIC_MAP = "PM"
    KEY_IMAGES = "KOS"
    OUTLINES = "PR"
    PICTURE = "SC"
    DERIVED = "DERIVED"
    RTSTRUCT = "RTSTRUCT"
    REPORT = "PDF"
    NOTICE = "NOTICE"
    """Says that a pipeline did not run, and why."""
    WITHDRAWAL = "WITHDRAWAL"
    """Rejects the results of an earlier generation."""


@dataclass(frozen=True, slots=True)
class ResultReference:
    """A result of an earlier run: enough to name it as a predecessor, or to withdraw it."""

    role: ResultRole
    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPClassUID: str
    SOPInstanceUID: str


@dataclass(frozen=True, slots=True)
class ResultInstance(ResultReference):
    """One result instance without its bytes, which are in the object store."""

    TransferSyntaxUID: str


@dataclass(frozen=True, slots=True)
class EncodedResult(ResultInstance):
    """One result instance as the bytes of a DICOM file (PS3.10)."""

    data: bytes

    @property
    def instance(self) -> ResultInstance:
        """The same without its bytes."""
        reference = (self.role, self.StudyInstanceUID, self.SeriesInstanceUID, self.SOPClassUID)
        return ResultInstance(*reference, self.SOPInstanceUID, self.TransferSyntaxUID)


@dataclass(frozen=True, slots=True)
class OutgoingInstance:
    """A stored file to be sent as it is; opened when it is sent, and perhaps fetched then."""

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    path: str | PathLike[str]
