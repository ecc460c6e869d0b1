"""A worker runs what it claimed, and stops at once when it may not go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dicomnode.config import Config
from dicomnode.errors import IllegalTransition
from dicomnode.model.job import JobState
from dicomnode.model.queue import PauseKind
from dicomnode.model.topic import Topic
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import check_rule
from dicomnode.services import administration
from dicomnode.services.execution import Worker
from dicomnode.services.ingest import Ingest
from dicomnode.services.routing import RouteTable, RoutingService
from dicomnode.services.running import LocalExecutor
from dicomnode.services.waking import Bell, Waking
from dicomnode.store import completions, jobs, results
from dicomnode.store.clock import Now
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from dicomnode.store.schema import instance
from tests.harness.heads import small_series
from tests.harness.schema import upgraded
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.peers import wait_for
from tests.services.test_ingest import received

SERIES = "1.2.826.0.1.3680043.10.511.9.1"
ENDLESS = "import subprocess; subprocess.Popen(['sleep', '600']); time.sleep(600)"


@dataclass
class Node:
    """Stores, one pipeline and what works on them, in this process."""

    database: Database
    objects: ObjectStore
    registry: Registry
    config: Config

    def route(self) -> None:
        """Receive a series and make its jobs."""
        ingest = Ingest(self.database, self.objects)
        for ds in small_series(6, SeriesInstanceUID=SERIES):
            ingest.store(received(ds))
        with self.database.begin() as tx:
            completions.complete_ordered(tx, SERIES)
        self.tick()

    def tick(self) -> None:
        """Route what is complete."""
        RoutingService(self.database, self.objects, RouteTable(self.config), self.registry).tick()

    def worker(self, taken_away: Bell | None = None) -> Worker:
        """A slot that runs jobs on this machine."""
        scratch = self.config.node.data / "scratch"
        executor = LocalExecutor(self.objects, self.registry, self.config.workers, scratch)
        return Worker(self.database, executor, self.config, "w1", taken_away)

    def jobs(self) -> list[jobs.Job]:
        """All jobs, the oldest first."""
        with self.database.read() as tx:
            return jobs.find(tx)[::-1]


def make_node(tmp_path: Path, url: str, extra: str = "pass", **route: object) -> Node:
    write_toy_pipeline(tmp_path / "pipelines", extra=extra)
    config = Config.model_validate(
        {
            "node": {"data": str(tmp_path), "minimum_free_mb": 0},
            "workers": {"lease_s": 60.0, "device": "cpu"},
            "route": [{"name": "toy", "when": "true", "pipeline": "toy", **route}],
        }
    )
    database = upgraded(url)
    registry = Registry.open(tmp_path / "pipelines", check_rule)
    return Node(database, ObjectStore(tmp_path, 0), registry, config)


@pytest.fixture
def endless(tmp_path: Path, database_url: str) -> Iterator[Node]:
    node = make_node(tmp_path, database_url, ENDLESS)
    yield node
    node.database.close()


def group(pid: int) -> list[int]:
    """The processes of a process group that have not ended."""
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = entry.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(pgrp) == pid and state != "Z":
            members.append(int(entry.parent.name))
    return members


def test_a_job_that_is_cancelled_while_it_runs_ends_at_once_with_all_that_it_started(endless: Node):
    endless.route()
    stop = threading.Event()
    waking = Waking(endless.database, stop)
    worker = endless.worker(waking.bell(Topic.LEASE))
    with waking:
        run = threading.Thread(target=worker.tick, args=(stop,))
        run.start()
        wait_for(lambda: worker._executor.pid)
        pid = worker._executor.pid
        wait_for(lambda: any("sleep" in command(member) for member in everyone_under(pid)))
        started = everyone_under(pid)
        cancelled = time.monotonic()
        administration.cancel_job(endless.database, endless.jobs()[0].id, "not needed", "jane")
        run.join(20)
        seconds = time.monotonic() - cancelled
    stop.set()
    assert not run.is_alive()
    assert seconds < 10, "long before the heartbeat of twenty seconds"
    wait_for(lambda: not any(Path("/proc", str(member)).exists() for member in started), 10)
    assert group(pid) == []
    assert endless.jobs()[0].state is JobState.CANCELLED
    worker.close()


def everyone_under(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            found += everyone_under(int(entry.parent.name))
    return found


def command(pid: int) -> str:
    """What a process was started as; "" where it is gone."""
    try:
        return Path("/proc", str(pid), "cmdline").read_text()
    except OSError:
        return ""


def test_a_job_of_a_route_that_holds_runs_when_it_is_released_and_reruns_replace_its_results(
    tmp_path: Path, database_url: str
):
    node = make_node(tmp_path, database_url, hold=True)
    node.route()
    held = node.jobs()[0]
    assert (held.state, held.reason) == (JobState.HELD, "route 'toy' holds its jobs for review")
    worker = node.worker()
    stop = threading.Event()
    assert not worker.tick(stop)
    administration.release_job(node.database, held.id, "jane")
    assert worker.tick(stop)
    again = administration.rerun_job(node.database, node.registry, held.id, "jane")
    node.tick()
    assert [(job.id, job.generation, job.state) for job in node.jobs()] == [
        (held.id, 1, "done"),
        (again, 2, "ready"),
    ], "the rules are not asked again"
    with pytest.raises(IllegalTransition):
        administration.rerun_job(node.database, node.registry, again, "jane")
    assert worker.tick(stop)
    places = administration.describe_queue(node.database, ())
    worker.close()
    with node.database.read() as tx:
        assert jobs.get(tx, again).state is JobState.DONE
        assert results.offered(tx, jobs.get(tx, again)) == [], "nothing had been sent yet"
    assert places == {}
    node.database.close()


def test_a_pipeline_that_is_paused_is_shown_with_who_and_why_and_runs_after_it_is_resumed(
    tmp_path: Path, database_url: str
):
    node = make_node(tmp_path, database_url)
    node.route()
    job_id = node.jobs()[0].id
    administration.pause(node.database, PauseKind.PIPELINE, "toy", "new weights", "jane")
    worker = node.worker()
    stop = threading.Event()
    assert not worker.tick(stop)
    place = administration.describe_queue(node.database, ())[job_id]
    assert (place.place, place.note) == (1, "pipeline 'toy' is paused")
    paused = administration.describe_all(node.database, ())["paused"]
    assert [(each["name"], each["actor"], each["reason"]) for each in paused] == [
        ("toy", "jane", "new weights")
    ]
    administration.resume(node.database, PauseKind.PIPELINE, "toy", "jane")
    assert worker.tick(stop)
    worker.close()
    node.database.close()


def test_a_job_whose_input_has_left_the_node_says_so_and_what_to_do(tmp_path: Path, database_url: str):
    node = make_node(tmp_path, database_url)
    node.route()
    with node.database.begin() as tx:
        tx.execute(update(instance).values(released_at=Now(), removed_at=Now()))
        digests = tx.execute(select(instance.c.sha256)).scalars().all()
    for digest in digests:
        node.objects.path(digest).unlink()
    worker = node.worker()
    assert worker.tick(threading.Event())
    (job,) = node.jobs()
    assert (job.state, job.reason_code) == (JobState.DEAD, "INPUT_LEFT")
    assert "send all of it again" in str(job.reason)
    node.database.close()
