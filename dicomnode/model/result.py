"""What a job yields: encoded instances that never change once they are committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """One result instance without its bytes, which are in the object store.

    `searched` are the attributes that it can be searched by, by keyword. Of the forms that a run's results
    are made in, one is `listed` by this node itself.
    """

    TransferSyntaxUID: str
    searched: Mapping[str, str | int | None] = field(default_factory=dict, kw_only=True, hash=False)
    listed: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, slots=True)
class EncodedResult(ResultInstance):
    """One result instance as the bytes of a DICOM file (PS3.10)."""

    data: bytes

    @property
    def instance(self) -> ResultInstance:
        """The same without its bytes."""
        reference = (self.role, self.StudyInstanceUID, self.SeriesInstanceUID, self.SOPClassUID)
        uids = (self.SOPInstanceUID, self.TransferSyntaxUID)
        return ResultInstance(*reference, *uids, searched=self.searched, listed=self.listed)


@dataclass(frozen=True, slots=True)
class OutgoingInstance:
    """A stored file to be sent as it is; opened when it is sent, and perhaps fetched then."""

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    path: str | PathLike[str]
