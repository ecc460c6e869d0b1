"""The node is killed with SIGKILL, whole or one process of it, at named points and at random ones."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import psutil
import pytest

from tests.faults.books import SEEDS, Scene, moments, processes
from tests.harness.nodes import wait_for

CRASH = Path(__file__).parent / "crash"

POINTS = {
    "an instance's bytes are written": "dicomnode.store.objects:_sync_file:after:3",
    "an instance is renamed and its folder not synced": "dicomnode.store.objects:sync_folder:before:9",
    "an instance's bytes are durable, its row not there": "dicomnode.services.ingest:add_to_known:before:3",
    "an instance's row is not committed": "dicomnode.services.ingest:add_to_known:after:4",
    "an instance is durable and not acknowledged": "dicomnode.services.ingest:Ingest.store:after:6",
    "a series is found complete": "dicomnode.store.completions:_complete:after:1",
    "a job is not committed": "dicomnode.store.jobs:add:after:1",
    "a completion is routed": "dicomnode.services.routing:RoutingService._route:after:1",
    "a job is claimed": "dicomnode.services.execution:Worker._work:before:1",
    "the run is over": "dicomnode.services.inference:encode_results:before:1",
    "the results are encoded": "dicomnode.services.inference:encode_results:after:1",
    "the results are stored": "dicomnode.services.running:keep:after:1",
    "the job's end is not committed": "dicomnode.services.execution:Worker._finish:after:1",
    "the deliveries are claimed": "dicomnode.services.delivery:Courier._is_intact:before:1",
    "a result is accepted and not noted": "dicomnode.services.delivery:Courier._settle:before:1",
    "a delivery is noted as accepted": "dicomnode.services.delivery:Courier._settle:after:1",
    "the archive lists it and that is not noted": "dicomnode.store.deliveries:confirm:before:1",
}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_nothing_acknowledged_is_lost_when_the_node_is_killed_as(point: str, scene: Scene) -> None:
    scene.new_node(CRASH_AT=point, PYTHONPATH=str(CRASH)).start()
    scene.send()
    wait_for("the crash", lambda: not scene.node.alive(), 90)
    scene.new_node().start()
    scene.settle()


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost_when_the_node_is_killed_at_random(seed: int, scene: Scene) -> None:
    when = moments(seed)
    # Twice: a job that was running at three kills would be dead, and rightly so.
    for _ in range(2):
        scene.node.start()
        killer = threading.Timer(when.uniform(0.0, 6.0), scene.node.kill)
        killer.start()
        scene.send()
        killer.join()
    scene.node.start()
    scene.settle()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_process_that_is_killed_costs_the_others_nothing(seed: int, scene: Scene) -> None:
    when = moments(seed)
    scene.node.start()

    def kill_one() -> None:
        victim = when.choice(processes(scene.node))
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()

    killers = [threading.Timer(at, kill_one) for at in sorted(when.uniform(0.0, 8.0) for _ in range(2))]
    for killer in killers:
        killer.start()
    scene.send()
    for killer in killers:
        killer.join()
    assert scene.node.alive()
    scene.settle()
