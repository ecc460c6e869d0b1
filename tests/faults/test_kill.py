"""The node is killed with SIGKILL, whole or one process of it, at named points and at random ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.faults.books import FIRST_SEED, ROUNDS, archive_in
from tests.faults.memory import memory_folder
from tests.faults.siege import Siege

CHECKED_EVERY = 50
"""Kills between two looks at the books."""
FEW = 5
"""Kills where no more are asked for."""

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


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: what is killed has its files all the same, and the disk is not what is tested."""
    with memory_folder() as folder:
        yield folder


@contextmanager
def besieged(folder: Path, **environment: str) -> Iterator[Siege]:
    with closing(archive_in(folder)) as archives:
        siege = Siege(folder, next(archives), folder / "pipelines", **environment)
        try:
            yield siege
        finally:
            siege.close()


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_when_the_node_is_killed_at_each_named_point(folder: Path) -> None:
    with besieged(folder) as siege:
        for what, point in POINTS.items():
            siege.crash_at(what, point)
            siege.check_books()
        siege.settle()


@pytest.mark.timeout(600 + 20 * ROUNDS)
def test_nothing_acknowledged_is_lost_while_any_process_is_killed_at_any_time(
    folder: Path, database_url: str
) -> None:
    kills = max(ROUNDS, FEW)
    with besieged(folder, DICOMNODE_DATABASE_URL=database_url) as siege:
        for first in range(0, kills, CHECKED_EVERY):
            siege.play(min(CHECKED_EVERY, kills - first), FIRST_SEED + first, POINTS)
            siege.settle()
        print(f"killed, from seed {FIRST_SEED} on: {dict(siege.killed.most_common())}")
        assert sum(siege.killed.values()) == kills
