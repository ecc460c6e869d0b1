"""What an administrator says of the queue: pauses by name, who said so and why, and no mistyped name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.cli.common import actor
from dicomnode.config import load_config
from dicomnode.errors import NotFound
from dicomnode.installation import open_stores
from dicomnode.model.room import Room, Slot
from dicomnode.store import workers
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.store.builders import complete_series, new_job


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_toy_pipeline(tmp_path / "pipelines")
    file = tmp_path / "config.toml"
    file.write_text('[node]\nminimum_free_mb = 1\n[[route]]\nname = "day"\nwhen = "true"\npipeline = "toy"\n')
    stores = open_stores(load_config(file, {}))
    stores.database.upgrade()
    completion_id = complete_series(stores.database)
    with stores.database.begin() as tx:
        new_job(tx, completion_id, pipeline="toy", route="day")
        workers.begin(tx, "worker-1@here", Slot("worker-1@here", "here", "gpu:0", Room(8000, 4000)))
    stores.database.close()
    return file


def run(config: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--config", str(config)])
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.mark.parametrize(
    ("group", "verb", "kind", "name"),
    [
        ("pipelines", "pause", "pipeline", "toy"),
        ("routes", "pause", "route", "day"),
        ("workers", "drain", "worker", "worker-1@here"),
    ],
)
def test_what_is_paused_is_shown_with_who_and_why_until_it_is_resumed(config, group, verb, kind, name):
    run(config, group, verb, name, "--reason", "new weights")
    (paused,) = json.loads(run(config, "status", "--json"))["paused"]
    assert (paused["kind"], paused["name"], paused["actor"]) == (kind, name, actor())
    assert f"{kind} '{name}' is paused by {actor()}" in run(config, "status")
    run(config, group, "resume", name)
    assert json.loads(run(config, "status", "--json"))["paused"] == []
    for command in (verb, "resume"):
        with pytest.raises(NotFound):
            run(config, group, command, "mistyped")


def test_a_job_that_waits_has_its_place_and_says_why_nobody_knows_when_it_ends(config):
    (job,) = json.loads(run(config, "jobs", "list", "--json"))
    assert (job["place"], job["expected_at"], job["note"]) == (1, None, "toy was never measured")
    assert "toy was never measured" in run(config, "jobs", "show", "1")
    study = json.loads(run(config, "status", "1.2.3", "--json"))["list"][0]
    assert study["series"][0]["jobs"][0]["place"] == 1


def test_workers_are_listed_with_what_they_do(config):
    (worker,) = json.loads(run(config, "workers", "list", "--json"))
    assert (worker["name"], worker["draining"], worker["job_id"]) == ("worker-1@here", False, None)
    run(config, "workers", "drain", "worker-1@here")
    assert "drained" in run(config, "workers", "list")


def test_devices_are_listed_with_their_memory(config):
    cpu, gpu = json.loads(run(config, "workers", "devices", "--json"))
    assert cpu == {"host": "here", "name": "cpu", "memory_mb": 8000, "held_mb": 0, "free_mb": 8000}
    assert (gpu["name"], gpu["free_mb"]) == ("gpu:0", 4000)
    assert "gpu:0" in run(config, "workers", "devices")
    assert "gpu:0 of here: 0 of 4000 MB held" in run(config, "status")
