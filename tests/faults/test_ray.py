"""Jobs on a Ray cluster of three machines, two of them with a pretended GPU, over PostgreSQL and S3."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest

from dicomnode.config import load_config
from dicomnode.errors import PipelineChanged, RunCancelled
from dicomnode.executors.ray_executor import RayExecutor
from dicomnode.store.bucket import BucketSettings
from tests.conftest import NOT_RUN_HERE
from tests.faults.books import Archive, Scene
from tests.faults.ray_cluster import Cluster, Machine, kill_with_all_below, left_of
from tests.harness.nodes import wait_for
from tests.harness.orders import toy_order
from tests.harness.swift import SwiftServer
from tests.harness.toy_pipeline import write_toy_pipeline

LIMIT_S = 180
"""For one step: processes of Ray are slow to start where much else runs."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if find_spec("ray") is None:
        pytest.skip(f"{NOT_RUN_HERE}ray")
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="ray-")))
    yield cluster
    wait_for("all processes of Ray to be gone", lambda: not left_of(cluster), 60)
    shutil.rmtree(cluster.folder)


@pytest.mark.timeout(900)
def test_a_job_outlives_the_machine_that_runs_it_and_then_the_whole_cluster(
    tmp_path: Path,
    archive: Archive,
    cluster: Cluster,
    postgres_url: str,
    swift_server: SwiftServer,
    s3_bucket: BucketSettings,
) -> None:
    pipelines = tmp_path / "slow"
    write_toy_pipeline(pipelines, extra="time.sleep(3.0)")
    objects = swift_server.environment(s3_bucket.name)
    scene = Scene(
        tmp_path,
        archive,
        pipelines,
        **objects,
        **cluster.environment(2, gpus=0),
        DICOMNODE_DATABASE_URL=postgres_url,
        DICOMNODE_DIMSE_PROCESSES="1",
        DICOMNODE_WORKERS_EXECUTOR="ray",
        DICOMNODE_WORKERS_SLOTS="2",
        DICOMNODE_JOBS_ATTEMPTS="9",
    )
    one, other = (
        Machine(tmp_path / f"machine-{number}", pipelines, cluster.environment(number, gpus=1) | objects)
        for number in (3, 4)
    )
    try:
        scene.node.start()
        one.start()
        wait_for("two slots on one GPU", lambda: len(scene.events("ray.placed")) >= 2, LIMIT_S)
        other.start()
        scene.send()
        wait_for("the job to run", lambda: one.works, LIMIT_S)
        one.kill()
        wait_for("the other machine to run it", lambda: other.works, LIMIT_S)
        other.kill()
        kill_with_all_below(psutil.Process(scene.pid_of("ray")))
        one.start()
        scene.settle(2 * LIMIT_S)
        assert scene.events("job.ended")[-1]["outcome"] == "done"
        assert scene.node.stop() == 0
    finally:
        one.kill()
        other.kill()
        if scene.node.alive():
            kill_with_all_below(psutil.Process(scene.node.pid))


@pytest.fixture
def first(tmp_path: Path, cluster: Cluster) -> Iterator[Machine]:
    """A machine that is a cluster by itself, where a run of the toy would take an hour."""
    write_toy_pipeline(tmp_path / "pipelines", time_limit_s=4000, extra="time.sleep(3600)")
    first = Machine(tmp_path / "machine", tmp_path / "pipelines", cluster.environment(2, gpus=1))
    first.start()
    yield first
    first.kill()


@pytest.mark.timeout(900)
def test_a_cluster_lets_in_who_knows_its_token_and_cuts_a_run_at_once(
    cluster: Cluster, first: Machine
) -> None:
    settings = load_config(first.config, cluster.environment(2, gpus=1)).ray
    strangers = [_environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64), _environment()]
    wait_for("the first machine", cluster.listens, LIMIT_S)
    with patch.dict(os.environ), ThreadPoolExecutor() as pool:
        refusals = pool.map(partial(_refusal, cluster), strangers)
        slot = RayExecutor(settings, memory_mb=100)
        try:
            wait_for("its place", slot.ready, LIMIT_S)
            order = toy_order(first.config)
            with pytest.raises(PipelineChanged, match="toy is not installed"):
                slot.run(replace(order, pipeline_digest="0" * 64), lambda: False)
            with pytest.raises(RunCancelled):
                slot.run(order, lambda: first.works)
            assert slot.ready(), "the place is as good as before"
        finally:
            slot.close()
        assert all("InvalidAuthToken" in refusal for refusal in refusals)


def _environment(**shown: str) -> dict[str, str]:
    """That of a client of Ray that shows this, and nothing else."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**known, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", **shown}


def _refusal(cluster: Cluster, environment: dict[str, str]) -> str:
    """What a client is told that does not get in."""
    done = subprocess.run(
        [sys.executable, "-c", f"import ray; ray.init({cluster.address!r}, _node_ip_address='127.0.0.2')"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode != 0
    return done.stderr
