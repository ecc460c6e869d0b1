"""What arrives: an instance, and the association that brought it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class AssociationFacts:
    """Who brought an instance; `key` is unique to one association (or one STOW-RS request).

    `asked`: this node had asked for what came: by C-GET, C-MOVE or WADO-RS.
    """

    key: str
    calling_ae: str
    called_ae: str
    address: str
    asked: bool = False

    def moved_for(self, originator: str | None) -> AssociationFacts:
        """The same of an instance that came for the C-MOVE of an AE title (PS3.7 9.1.1.1).

        What one association brings for a C-MOVE of this node's, and what it brings of its own, is told apart.
        """
        if not originator or originator.strip() != self.called_ae.strip():
            return self
        return replace(self, key=f"{self.key[:58]} asked", asked=True)


@dataclass(frozen=True, slots=True)
class Announced:
    """What a request says of an instance, ahead of its data set."""

    association: AssociationFacts
    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str


@dataclass(frozen=True, slots=True)
class Received(Announced):
    """One instance as it came in: what the request said of it, and the bytes of its data set.

    `data` holds the encoded data set as it came over the wire, without preamble and file meta
    information; for a deflated transfer syntax it is still deflated.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Bytes in the object store: a DICOM file (PS3.10), named by the SHA-256 of its content."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """One stored instance of a frozen input set."""

    SOPInstanceUID: str
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One instance that can be retrieved: its place in the hierarchy, and its bytes in the object store."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    SOPClassUID: str
    TransferSyntaxUID: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One stored instance as the catalog takes it in.

    `study`, `series` and `instance` hold the attributes of each level by keyword, as text.
    `expected_instances` is the number that the series has according to its header (0020,1209);
    `minimum_instances` is the least it must have (0020,1002).
    """

    association: AssociationFacts
    stored: StoredObject
    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    study: Mapping[str, str]
    series: Mapping[str, str]
    instance: Mapping[str, str | int | None]
    expected_instances: int | None
    minimum_instances: int | None


class Addition(StrEnum):
    """What became of an arrival."""

    ADDED = "added"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class Completion:
    """One generation of a series that counts as complete, as routing takes it up."""

    id: int
    series_id: int
    generation: int
    instance_count: int
    StudyInstanceUID: str
    SeriesInstanceUID: str
    patient_conflict: bool
    association: AssociationFacts


class CompletionReason(StrEnum):
    """Why a series counts as complete."""

    QUIET = "quiet"
    EXPECTED = "expected"
    MISSING = "missing"
    ORDERED = "ordered"
    LISTED = "listed"
    ANNOUNCED = "announced"
