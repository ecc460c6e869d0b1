"""What others tell of a series: which instances it has (PS3.4 F, R)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

InstancesBySeries = Mapping[str, frozenset[str]]
"""SOPInstanceUIDs by SeriesInstanceUID."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Instances that somebody has, and those that nobody can have any more."""

    available: InstancesBySeries
    unavailable: InstancesBySeries


@dataclass(frozen=True, slots=True)
class AvailableInstance:
    """An instance that others can be told of, and from whom they can retrieve it."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPClassUID: str
    SOPInstanceUID: str
    retrieve_ae_titles: tuple[str, ...]


class AvailabilityState(StrEnum):
    """How far telling one peer of one job's results has come."""

    READY = "ready"
    TOLD = "told"
    DEAD = "dead"


class StepState(StrEnum):
    """Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a modality says of a performed procedure step; None: nothing new."""

    SOPInstanceUID: str
    state: StepState | None
    series: InstancesBySeries | None
