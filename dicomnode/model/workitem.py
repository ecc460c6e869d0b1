"""Work items: unified procedure steps whose work is one job or several (PS3.4 CC.1, PS3.18 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

from dicomnode.model.job import JobState, Priority

UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"
"""The SOP class that a work item names as its own, whichever service it is reached by (PS3.4 CC.3.1)."""
UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"
WORKLIST_UID = "1.2.840.10008.5.1.4.34.5"
FILTERED_WORKLIST_UID = "1.2.840.10008.5.1.4.34.5.1"
CODE_SCHEME = "99DICOMNODE"
"""The coding scheme in which a Scheduled Workitem Code is the name of an installed pipeline."""

Attributes: TypeAlias = dict[str, dict[str, Any]]
"""A data set in the DICOM JSON model (PS3.18 F.2)."""


class StepState(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


FINAL = frozenset({StepState.COMPLETED, StepState.CANCELED})

STEP_OF: Mapping[JobState, StepState] = MappingProxyType(
    {
        JobState.HELD: StepState.SCHEDULED,
        JobState.READY: StepState.SCHEDULED,
        JobState.LEASED: StepState.IN_PROGRESS,
        JobState.RETRY_WAIT: StepState.IN_PROGRESS,
        JobState.DONE: StepState.COMPLETED,
        JobState.REFUSED: StepState.CANCELED,
        JobState.DEAD: StepState.CANCELED,
        JobState.CANCELLED: StepState.CANCELED,
    }
)
"""What the state of a job says about its step."""


class Readiness(StrEnum):
    """Input Readiness State (0040,4041)."""

    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    INCOMPLETE = "INCOMPLETE"


class EventType(IntEnum):
    """Event Type ID (PS3.4 table CC.2.4-1)."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    SCP_STATUS_CHANGE = 4
    ASSIGNED = 5


PRIORITY_OF: Mapping[str, Priority] = MappingProxyType(
    {
        "STAT": Priority.STAT,
        "HIGH": Priority.HIGH,
        "MEDIUM": Priority.ROUTINE,
        "LOW": Priority.LOW,
    }
)
STEP_PRIORITY: Mapping[Priority, str] = MappingProxyType(
    {
        Priority.STAT: "HIGH",
        Priority.HIGH: "HIGH",
        Priority.ROUTINE: "MEDIUM",
        Priority.LOW: "LOW",
    }
)
"""Scheduled Procedure Step Priority (0074,1200); STAT is taken and told as HIGH, its equal (PS3.3 C.30.2)."""


def next_state(before: StepState, parts: Iterable[StepState]) -> StepState:
    """The state of a step whose parts are in these states: it never goes back, and ends when all ended."""
    states = set(parts)
    if before in FINAL or not states:
        return before
    if states <= FINAL:
        return StepState.COMPLETED if states == {StepState.COMPLETED} else StepState.CANCELED
    return before if states == {StepState.SCHEDULED} else StepState.IN_PROGRESS


def way(before: StepState, after: StepState) -> tuple[StepState, ...]:
    """The states that follow `before` up to `after`: an end is reached through IN PROGRESS (PS3.4 CC.1.1)."""
    if before is after:
        return ()
    if before is StepState.SCHEDULED and after in FINAL:
        return (StepState.IN_PROGRESS, after)
    return (after,)


@dataclass(frozen=True, slots=True)
class Input:
    """A series that a work item is about, and the job that works on it; `waiting` until there is one."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    waiting: bool = True
    job_id: int | None = None


@dataclass(frozen=True, slots=True)
class NewWorkItem:
    """A work item to be inserted.

    `send_to`: the destinations that the results go to, None for those of the routes that match. `attributes`:
    what it was created with, without what the node itself tells of it.
    """

    SOPInstanceUID: str
    pipeline: str
    priority: str
    readiness: Readiness
    start: datetime
    send_to: tuple[str, ...] | None
    inputs: tuple[Input, ...]
    attributes: Attributes
    keys: Mapping[str, str]
    """What is searched for beside this: keyword → value (PS3.4 table CC.2.5-3)."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A row of the table as it was read. `reason` says why it was cancelled."""

    id: int
    SOPInstanceUID: str
    state: StepState
    pipeline: str
    priority: str
    readiness: Readiness
    start: datetime
    send_to: tuple[str, ...] | None
    attributes: Attributes
    reason: str | None
    reason_code: str | None
    modified_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Output:
    """One result of a work item, and the destinations that it is sent to."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPClassUID: str
    SOPInstanceUID: str
    created_at: datetime
    destinations: tuple[str, ...]
