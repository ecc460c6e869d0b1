"""The states of a job, and every way from one to another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dicomnode.errors import IllegalTransition
from dicomnode.model.version import Version


class JobState(StrEnum):
    """Where a job is."""

    HELD = "held"
    READY = "ready"
    LEASED = "leased"
    RETRY_WAIT = "retry_wait"
    DONE = "done"
    REFUSED = "refused"
    DEAD = "dead"
    CANCELLED = "cancelled"


class JobEvent(StrEnum):
    """What happens to a job."""

    HOLD = "hold"
    RELEASE = "release"
    CLAIM = "claim"
    FINISH = "finish"
    REFUSE = "refuse"
    FAIL = "fail"
    GIVE_UP = "give_up"
    HAND_BACK = "hand_back"
    EXPIRE = "expire"
    CANCEL = "cancel"
    RETRY = "retry"
    OVERDUE = "overdue"
    RERUN = "rerun"


TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    (JobState.HELD, JobEvent.RELEASE): JobState.READY,
    (JobState.HELD, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.READY, JobEvent.CLAIM): JobState.LEASED,
    (JobState.READY, JobEvent.HOLD): JobState.HELD,
    (JobState.READY, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.READY, JobEvent.OVERDUE): JobState.DEAD,
    (JobState.LEASED, JobEvent.FINISH): JobState.DONE,
    (JobState.LEASED, JobEvent.REFUSE): JobState.REFUSED,
    (JobState.LEASED, JobEvent.FAIL): JobState.RETRY_WAIT,
    (JobState.LEASED, JobEvent.GIVE_UP): JobState.DEAD,
    (JobState.LEASED, JobEvent.HAND_BACK): JobState.READY,
    (JobState.LEASED, JobEvent.EXPIRE): JobState.RETRY_WAIT,
    (JobState.LEASED, JobEvent.HOLD): JobState.HELD,
    (JobState.LEASED, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.RETRY_WAIT, JobEvent.CLAIM): JobState.LEASED,
    (JobState.RETRY_WAIT, JobEvent.HOLD): JobState.HELD,
    (JobState.RETRY_WAIT, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.RETRY_WAIT, JobEvent.OVERDUE): JobState.DEAD,
    (JobState.DEAD, JobEvent.RETRY): JobState.READY,
    (JobState.REFUSED, JobEvent.RETRY): JobState.READY,
    (JobState.CANCELLED, JobEvent.RETRY): JobState.READY,
    (JobState.DONE, JobEvent.RERUN): JobState.DONE,
    (JobState.REFUSED, JobEvent.RERUN): JobState.REFUSED,
    (JobState.DEAD, JobEvent.RERUN): JobState.DEAD,
    (JobState.CANCELLED, JobEvent.RERUN): JobState.CANCELLED,
}

SETTLED = frozenset({JobState.DONE, JobState.REFUSED, JobState.DEAD, JobState.CANCELLED})
"""No worker will touch a job in one of these again unless an administrator says so."""

WAITING = frozenset(state for state, event in TRANSITIONS if event is JobEvent.CLAIM)
"""Where a job can be claimed from."""

PATIENT_CONFLICT = "instances of this study name different patients"
"""Why a job is held until an administrator has looked."""

AWAITS_PRIORS = "AWAITS_PRIORS"
"""Why a job is held until the priors that its pipeline asks for are here, or the time for them is over."""


TOO_LARGE = "TOO_LARGE"
"""Why a job is held that no device of any machine has the memory for."""


def advance(state: JobState, event: JobEvent) -> JobState:
    """The state after `event`; raises IllegalTransition where the table has no such edge."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


class Priority(StrEnum):
    """How urgent a route's jobs are."""

    STAT = "stat"
    HIGH = "high"
    ROUTINE = "routine"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 is the most urgent."""
        return tuple(Priority).index(self)


HEAD_START_S = {
    Priority.STAT: 86_400.0,
    Priority.HIGH: 7_200.0,
    Priority.ROUTINE: 0.0,
    Priority.LOW: -28_800.0,
}
"""So many seconds earlier than it came a job counts as come: each waits behind a bounded number of others."""


def head_start_s(priority: Priority, deadline_s: float | None) -> float:
    """The head start of a job that is to begin within `deadline_s`: the sooner, the more like stat."""
    own = HEAD_START_S[priority]
    return own if deadline_s is None else max(own, HEAD_START_S[Priority.STAT] - deadline_s)


SHADOW_BEHIND_S = 10 * 365 * 86_400.0
"""So many seconds later than it came a shadow counts as come: behind every other, however long it waits."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one row until it expires; `fence` grows with each claim."""

    id: int
    fence: int


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be inserted: one pipeline on one frozen input set.

    `priors`: what is sought for it before it may run. `shadow_of`: the job beside which it runs, only to be
    compared with it.
    """

    key: str
    completion_id: int
    series_id: int
    generation: int
    input_digest: str
    route: str
    pipeline: str
    pipeline_version: str
    pipeline_digest: str
    priority: Priority
    send_to: tuple[str, ...]
    notify: tuple[str, ...]
    held_reason: str | None
    deadline_s: float | None
    priors: tuple[str, ...] = ()
    shadow_of: int | None = None

    @property
    def head_start_s(self) -> float:
        """So many seconds earlier than it came it counts as come."""
        if self.shadow_of is not None:
            return -SHADOW_BEHIND_S
        return head_start_s(self.priority, self.deadline_s)


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the job table as it was read.

    `shadow_of` is the job beside which it runs: what it makes is compared with that job's, and goes nowhere.
    """

    id: int
    key: str
    state: JobState
    fence: int
    attempt: int
    series_id: int
    SeriesInstanceUID: str
    StudyInstanceUID: str
    generation: int
    input_digest: str
    route: str
    pipeline: str
    pipeline_version: str
    pipeline_digest: str
    priority: Priority
    send_to: tuple[str, ...]
    notify: tuple[str, ...]
    reason_code: str | None
    reason: str | None
    deadline_at: datetime | None
    created_at: datetime
    updated_at: datetime
    shadow_of: int | None = None

    @property
    def version(self) -> Version:
        """The bundle that it is pinned to."""
        return Version(self.pipeline, self.pipeline_version, self.pipeline_digest)

    @property
    def lease(self) -> Lease:
        """The lease under which this row was claimed."""
        return Lease(self.id, self.fence)
