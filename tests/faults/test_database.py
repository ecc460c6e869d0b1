"""PostgreSQL goes away under a running node, as in a crash, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import PostgresServer
from tests.faults.books import SEEDS, Archive, Scene, moments
from tests.faults.test_freeze import pause
from tests.harness.nodes import wait_for
from tests.harness.toy_pipeline import write_toy_pipeline


def test_a_database_that_is_started_again_while_a_job_runs_costs_nothing(
    tmp_path: Path, archive: Archive, postgres_server: PostgresServer, postgres_url: str
) -> None:
    pipelines = tmp_path / "slow"
    write_toy_pipeline(pipelines, extra="time.sleep(2.0)")
    scene = Scene(tmp_path, archive, pipelines, DICOMNODE_DATABASE_URL=postgres_url)
    scene.node.start()
    try:
        scene.send()
        wait_for("the job to be claimed", lambda: scene.events("job.claimed"))
        postgres_server.stop()
        postgres_server.start()
        scene.settle()
    finally:
        scene.node.kill()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_database_may_be_away_at_any_time(
    seed: int, tmp_path: Path, archive: Archive, postgres_server: PostgresServer, postgres_url: str
) -> None:
    when = moments(seed)
    scene = Scene(tmp_path, archive, tmp_path / "pipelines", DICOMNODE_DATABASE_URL=postgres_url)
    scene.node.start()
    try:
        for _ in range(2):
            scene.send()
            pause(when.uniform(0.0, 4.0))
            postgres_server.stop()
            scene.send()
            pause(when.uniform(0.0, 3.0))
            postgres_server.start()
        scene.settle()
    finally:
        scene.node.kill()
