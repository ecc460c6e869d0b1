"""How far a series has come in the node, read from the same rows that the node works on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dicomnode.demo.errors import DemoError
from dicomnode.model.delivery import DeliveryState
from dicomnode.model.job import SETTLED, JobState
from dicomnode.services import administration
from dicomnode.store.database import Database

_SENT = frozenset({DeliveryState.SENT, DeliveryState.CONFIRMED})


@dataclass(frozen=True, slots=True)
class Delivered:
    """One result and how far it is on its way to the archive."""

    role: str
    SOPClassUID: str
    SOPInstanceUID: str
    SeriesInstanceUID: str
    state: DeliveryState
    reason: str | None
    created_at: datetime
    sent_at: datetime | None
    confirmed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Run:
    """The attempt that made the results; `timings` in seconds by stage."""

    started_at: datetime
    ended_at: datetime
    timings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Journey:
    """A series on its way; what has not happened yet is None, or empty."""

    received: int
    first_instance_at: datetime
    last_instance_at: datetime
    completed_at: datetime | None
    job_state: JobState | None
    results: tuple[Delivered, ...]
    run: Run | None

    @property
    def sent(self) -> int:
        """How many results the archive has accepted."""
        return sum(result.state in _SENT for result in self.results)

    @property
    def confirmed(self) -> int:
        """How many results the archive lists."""
        return sum(result.state is DeliveryState.CONFIRMED for result in self.results)

    @property
    def trouble(self) -> str:
        """Why a result has to wait for its next sending; empty where none has."""
        waiting = (result for result in self.results if result.state is DeliveryState.RETRY_WAIT)
        return next((result.reason or "" for result in waiting), "")


def read_journey(database: Database, StudyInstanceUID: str, SeriesInstanceUID: str) -> Journey | None:
    """None until the first instance is there. Raises DemoError where the series will never arrive."""
    found = [
        series
        for study in administration.describe_studies(database, StudyInstanceUID, 1)
        for series in study["series"]
        if series["SeriesInstanceUID"] == SeriesInstanceUID
    ]
    if not found:
        return None
    job = found[0]["jobs"][-1] if found[0]["jobs"] else None
    runs = administration.describe_job(database, job["id"])[1]["runs"] if job else []
    _require_progress(found[0], job)
    return _journey(found[0], job, runs)


def stages(journey: Journey) -> Iterator[tuple[str, float]]:
    """The seconds that each stage took, in order, by the node's own clock."""
    yield "receive", _between(journey.first_instance_at, journey.last_instance_at)
    if journey.completed_at is None or journey.run is None:
        return
    yield "wait until complete", _between(journey.last_instance_at, journey.completed_at)
    yield "wait for a worker", _between(journey.completed_at, journey.run.started_at)
    yield from journey.run.timings.items()
    whole = _between(journey.run.started_at, journey.run.ended_at)
    yield "start of the model, and the rest", max(0.0, whole - sum(journey.run.timings.values()))
    created = max(result.created_at for result in journey.results)
    sent = max((result.sent_at or created for result in journey.results), default=created)
    confirmed = max((result.confirmed_at or sent for result in journey.results), default=sent)
    yield "deliver", _between(created, sent)
    yield "confirm", _between(sent, confirmed)


def _require_progress(series: Mapping[str, Any], job: Mapping[str, Any] | None) -> None:
    if job is None:
        routed = [completion for completion in series["completions"] if completion["routed_at"]]
        if routed:
            notes = "; ".join(route["note"] or "no match" for route in routed[-1]["routes"])
            raise DemoError(f"no route took the series ({notes})")
    elif (state := JobState(job["state"])) in SETTLED - {JobState.DONE}:
        raise DemoError(f"job {job['id']} is {state}: {job['reason_code']}: {job['reason']}")
    elif dead := [
        delivery
        for result in job["results"]
        for delivery in result["deliveries"]
        if delivery["state"] == DeliveryState.DEAD
    ]:
        raise DemoError(f"the archive did not take a result: {dead[0]['reason']}")


def _journey(series: Mapping[str, Any], job: Mapping[str, Any] | None, runs: list[dict[str, Any]]) -> Journey:
    done = [run for run in runs if run["outcome"] == "done"]
    return Journey(
        received=series["instance_count"],
        first_instance_at=series["first_instance_at"],
        last_instance_at=series["last_instance_at"],
        completed_at=series["completed_at"],
        job_state=JobState(job["state"]) if job else None,
        results=tuple(map(_delivered, job["results"])) if job else (),
        run=Run(done[-1]["started_at"], done[-1]["ended_at"], done[-1]["timings"]) if done else None,
    )


def _delivered(result: Mapping[str, Any]) -> Delivered:
    delivery = result["deliveries"][0]
    # In the order of time, and a check of what was sent leaves it sent: the first time counts for that.
    sent_at = next(
        (event["at"] for event in delivery["events"] if event["state"] == DeliveryState.SENT), None
    )
    at = {event["state"]: event["at"] for event in delivery["events"]}
    return Delivered(
        role=result["role"],
        SOPClassUID=result["SOPClassUID"],
        SOPInstanceUID=result["SOPInstanceUID"],
        SeriesInstanceUID=result["SeriesInstanceUID"],
        state=DeliveryState(delivery["state"]),
        reason=delivery["reason"],
        created_at=result["created_at"],
        sent_at=sent_at,
        confirmed_at=at.get(DeliveryState.CONFIRMED),
    )


def _between(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())
