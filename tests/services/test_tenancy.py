"""Slots share a device, with real children: a model that nobody needs leaves for one that has no room."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from dicomnode.config import Config
from dicomnode.model.job import JobState
from dicomnode.model.room import Room, Slot
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import check_rule
from dicomnode.services import administration
from dicomnode.services.execution import Worker
from dicomnode.services.placement import place
from dicomnode.services.running import LocalExecutor
from dicomnode.services.tenancy import Tenancy
from dicomnode.store import room, workers
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.services.test_execution import Node, make_node

ROUTES = [
    {"name": "toy", "when": "true", "pipeline": "toy", "priority": "high"},
    {"name": "hungry", "when": "true", "pipeline": "hungry"},
]


def install(folder: Path, name: str, extra: str) -> None:
    """The toy under that name, which takes 2000 MB of a GPU."""
    toy = write_toy_pipeline(folder / name, extra=extra)
    manifest = toy / "pipeline.toml"
    text = manifest.read_text().replace('name = "toy"', f'name = "{name}"', 1)
    manifest.write_text(text.replace("memory_mb = 2000", "memory_mb = 2000\ngpu_memory_mb = 2000"))
    toy.rename(folder / "pipelines" / f"{name}-1")


class Seat:
    """A slot of a GPU of 3000 MB that is the CPU, and its worker."""

    def __init__(self, node: Node, name: str) -> None:
        self.slot = Slot(name, "here", "gpu:0", Room(16_000, 3000), ("gpu:0",))
        scratch = node.config.node.data / name
        self.model = LocalExecutor(node.objects, node.registry, node.config.workers, scratch, "cpu")
        tenancy = Tenancy(node.database, self.slot, self.model)
        self.worker = Worker(node.database, self.model, node.config, name, tenancy=tenancy)
        with node.database.begin() as tx:
            workers.begin(tx, name, self.slot)


def test_an_idle_model_leaves_for_a_job_and_one_that_has_too_little_memory_is_dead_after_a_frugal_try(
    tmp_path,
):
    node = make_node(tmp_path, f"sqlite:///{tmp_path}/d.sqlite3")
    install(tmp_path, "frugal", "pass")
    install(tmp_path, "hungry", "raise torch.OutOfMemoryError('CUDA')")
    settings = {**node.config.model_dump(mode="json"), "route": ROUTES, "jobs": {"backoff_s": 0.001}}
    settings["route"][0]["pipeline"] = "frugal"
    registry = Registry.open(tmp_path / "pipelines", check_rule)
    node = replace(node, registry=registry, config=Config.model_validate(settings))
    node.route()
    assert place(node.database, registry) == 2, "what both bundles need is known from here on"
    a, b, stop = Seat(node, "a"), Seat(node, "b"), threading.Event()
    assert a.worker.tick(stop)
    assert a.model.warm
    assert not b.worker.tick(stop), "a's model has the memory"
    with node.database.begin() as tx:
        assert room.is_to_leave(tx, "a")
        workers.tell(tx, "a", a.slot)
        gpu = room.devices(tx)[1]
    assert (gpu.name, gpu.held_mb, gpu.free_mb) == ("gpu:0", 2000, 1000)
    administration.pause(node.database, "worker", "a", "", "jane")
    assert not a.worker.tick(stop)
    assert a.model.warm is None
    assert a.model.pid is None
    assert b.worker.tick(stop)
    assert [(job.pipeline, job.state) for job in node.jobs()] == [
        ("frugal", JobState.DONE),
        ("hungry", JobState.RETRY_WAIT),
    ]
    while not b.worker.tick(stop):
        pass
    hungry = node.jobs()[1]
    assert (hungry.state, hungry.reason_code, hungry.attempt) == (JobState.DEAD, "OUT_OF_MEMORY", 2)
    with node.database.begin() as tx:
        workers.tell(tx, "b", b.slot)
        assert [each.held_mb for each in room.devices(tx)] == [0, 0], "nobody holds what nobody uses"
    node.database.close()
