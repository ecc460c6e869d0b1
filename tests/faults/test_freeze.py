"""Processes get no time for longer than their leases (a paused machine), and go on as if nothing had been."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.faults.books import SEEDS, Archive, Scene, moments, processes
from tests.harness.nodes import wait_for
from tests.harness.toy_pipeline import write_toy_pipeline

PAST_THE_LEASE_S = 5.0
"""The node of the harness has leases of 3 s."""


@contextmanager
def frozen(*stopped: psutil.Process) -> Iterator[None]:
    """These processes get no time while the block runs."""
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def pause(seconds: float) -> None:
    """Let real time go by: here it is what is tested."""
    threading.Event().wait(seconds)


def test_a_worker_frozen_past_its_lease_cannot_end_the_job_that_another_one_took(
    tmp_path: Path, archive: Archive
) -> None:
    pipelines = tmp_path / "slow"
    write_toy_pipeline(pipelines, extra="time.sleep(2.0)")
    scene = Scene(tmp_path, archive, pipelines, DICOMNODE_WORKERS_SLOTS="2")
    scene.node.start()
    try:
        scene.send()
        (first,) = wait_for("the job to be claimed", lambda: scene.events("job.claimed"))
        worker = psutil.Process(scene.pid_of(first["process"]))
        with ExitStack() as ice:
            # Stopped within a transaction, it would keep SQLite's only place to write from the others.
            with scene.nobody_writes():
                ice.enter_context(frozen(worker, *worker.children(recursive=True)))
            wait_for("the other worker to claim it", lambda: scene.events("job.claimed")[1:])
        wait_for("the first to notice", lambda: scene.events("job.lease_lost"))
        scene.settle()
        assert scene.events("job.claimed")[1]["process"] != first["process"]
    finally:
        scene.node.kill()


def test_a_node_that_was_paused_as_a_whole_goes_on(scene: Scene) -> None:
    scene.node.start()
    scene.send()
    wait_for("the job to be claimed", lambda: scene.events("job.claimed"))
    with frozen(psutil.Process(scene.node.pid), *processes(scene.node)):
        pause(PAST_THE_LEASE_S)
    scene.settle()


@pytest.mark.parametrize("seed", SEEDS)
def test_any_process_may_be_frozen_at_any_time(seed: int, scene: Scene) -> None:
    when = moments(seed)
    scene.node.start()
    started = time.monotonic()

    def freeze_some() -> None:
        for at in sorted(when.uniform(0.0, 8.0) for _ in range(2)):
            pause(max(0.0, started + at - time.monotonic()))
            with frozen(when.choice(processes(scene.node))):
                pause(when.uniform(1.0, PAST_THE_LEASE_S))

    freezer = threading.Thread(target=freeze_some)
    freezer.start()
    scene.send()
    freezer.join()
    scene.settle()
