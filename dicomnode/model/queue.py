"""The queue of jobs as values: what slows it down, who works on it, and when each job can be expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from heapq import heappop, heappush
from typing import TypeAlias


class PauseKind(StrEnum):
    """What can be paused: nothing of it is claimed then, and what runs goes on to its end."""

    PIPELINE = "pipeline"
    ROUTE = "route"
    WORKER = "worker"


OVERTAKING_S = 10.0
"""A job can be overtaken by others of a warm model that come within this time, and by no more."""

Lane: TypeAlias = tuple[PauseKind, str]
"""The jobs of one pipeline, or of one route."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of a lane may run: so many jobs at a time, so many seconds of slots within an hour."""

    lane: Lane
    at_once: int | None
    seconds_an_hour: float | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused what, when and why."""

    kind: PauseKind
    name: str
    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker that is there, whether it is drained, and the job that it works on.

    `held_mb` and `held_device_mb`: what it holds of its machine's and its device's memory, in MB, for the job
    or for the model of `pipeline` that it keeps warm.
    """

    name: str
    since: datetime
    seen_at: datetime
    draining: bool
    job_id: int | None
    device: str = ""
    pipeline: str | None = None
    held_mb: int = 0
    held_device_mb: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits: its bundle, the rank of its priority, and when it counts as come.

    `waited_s`: for so long it could have been claimed.
    """

    digest: str
    rank: int
    urgent_at: datetime
    waited_s: float

    def overtaken_by(self, digest: str | None) -> Waiting | None:
        """The jobs that a slot with the model of that bundle takes first: as urgent, and come a moment later.

        None where this one is of the same bundle, or there is no model.
        """
        if digest is None or digest == self.digest:
            return None
        return replace(self, digest=digest, urgent_at=self.urgent_at + timedelta(seconds=OVERTAKING_S))


@dataclass(frozen=True, slots=True)
class Queued:
    """A job that waits or runs; `since` is when it was claimed, `not_before` when it may be.

    `slot_stays`: False for one that runs where nothing further is begun, as its worker is drained or lost.
    """

    id: int
    pipeline: str
    route: str
    running: bool
    since: datetime
    not_before: datetime
    slot_stays: bool = True

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        """What it is counted under."""
        return (PauseKind.PIPELINE, self.pipeline), (PauseKind.ROUTE, self.route)


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """All of the queue at one moment; `jobs` in the order in which they are claimed, `run_s` by pipeline."""

    now: datetime
    jobs: Sequence[Queued]
    slots: int
    run_s: Mapping[str, float]
    paused: frozenset[Lane]
    exhausted: frozenset[Lane]
    at_once: Mapping[Lane, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands: 1 is the next one, None runs. `expected_at` its results, or `note`: why unknown."""

    place: int | None
    expected_at: datetime | None
    note: str


def forecast(facts: QueueFacts) -> dict[int, Place]:
    """The place of each job, and when its results can be expected if nothing more urgent comes."""
    clock = _Clock(facts)
    places: dict[int, Place] = {}
    for job in (job for job in facts.jobs if job.running):
        places[job.id] = clock.run(job)
    for number, job in enumerate((job for job in facts.jobs if not job.running), start=1):
        places[job.id] = clock.wait(job, number)
    return places


@dataclass
class _Clock:
    """Gives each job in turn the slot that is free first; `blocked` is why nothing further can be told."""

    facts: QueueFacts
    free: list[datetime] = field(default_factory=list)
    ends: dict[Lane, list[datetime]] = field(default_factory=dict)
    blocked: str = ""

    def __post_init__(self) -> None:
        running = sum(job.running and job.slot_stays for job in self.facts.jobs)
        self.free = [self.facts.now] * max(0, self.facts.slots - running)
        if not self.facts.slots:
            self.blocked = "no worker takes jobs"

    def run(self, job: Queued) -> Place:
        """One that runs: as long as its kind does, or a moment where it has been longer."""
        seconds = self.facts.run_s.get(job.pipeline)
        if seconds is None:
            self.blocked = self.blocked or f"{job.pipeline} runs, and was never measured"
            return Place(None, None, f"{job.pipeline} was never measured")
        end = max(self.facts.now, job.since + timedelta(seconds=seconds))
        self._occupy(job, end)
        return Place(None, end, "")

    def wait(self, job: Queued, number: int) -> Place:
        """One that waits: after those before it."""
        stopped = next((lane for lane in job.lanes if lane in self.facts.paused), None)
        if stopped is not None:
            return Place(number, None, f"{stopped[0]} {stopped[1]!r} is paused")
        spent = next((lane for lane in job.lanes if lane in self.facts.exhausted), None)
        if spent is not None:
            return Place(number, None, f"{spent[0]} {spent[1]!r} has used up its hour")
        seconds = self.facts.run_s.get(job.pipeline)
        if seconds is None:
            self.blocked = self.blocked or f"{job.pipeline} is before it, and was never measured"
            return Place(number, None, f"{job.pipeline} was never measured")
        if self.blocked:
            return Place(number, None, self.blocked)
        start = max(heappop(self.free), self._lanes_free(job), job.not_before)
        end = start + timedelta(seconds=seconds)
        self._occupy(job, end)
        return Place(number, end, "")

    def _occupy(self, job: Queued, end: datetime) -> None:
        if job.slot_stays:
            heappush(self.free, end)
        for lane in job.lanes:
            heappush(self.ends.setdefault(lane, []), end)

    def _lanes_free(self, job: Queued) -> datetime:
        """When each lane of the job has less than what may run of it at a time."""
        free = self.facts.now
        for lane in job.lanes:
            ends, most = self.ends.get(lane, []), self.facts.at_once.get(lane)
            while most is not None and len(ends) >= most:
                free = max(free, heappop(ends))
        return free


def strictest(limits: Sequence[Limit]) -> dict[Lane, int]:
    """How many jobs of each lane may run at a time, where that is limited."""
    most: dict[Lane, int] = {}
    for limit in limits:
        if limit.at_once is not None:
            most[limit.lane] = min(limit.at_once, most.get(limit.lane, limit.at_once))
    return most
