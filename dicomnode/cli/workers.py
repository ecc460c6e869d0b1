"""`dicomnode workers`: who runs jobs, and how one is drained before its machine is stopped."""

from __future__ import annotations

from dataclasses import asdict

import typer

from dicomnode.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    print_json,
    print_table,
    stores_of,
)
from dicomnode.cli.pausing import add_pausing
from dicomnode.installation import open_stores
from dicomnode.model.queue import PauseKind, WorkerStatus
from dicomnode.services import administration

app = typer.Typer(help="Workers: each runs one job at a time.", no_args_is_help=True)
add_pausing(
    app,
    PauseKind.WORKER,
    lambda config: [worker.name for worker in administration.find_workers(open_stores(config).database)],
    "drain",
)


@app.command("list")
def list_workers(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the workers that are there, and what each of them does."""
    found = administration.find_workers(stores_of(config).database)
    if as_json:
        print_json([asdict(worker) for worker in found])
        return
    print_table(
        "Workers",
        ("name", "state", "job", "since", "device", "model", "MB", "MB of device"),
        [
            (
                worker.name,
                _state(worker),
                worker.job_id,
                worker.since,
                worker.device,
                worker.pipeline,
                worker.held_mb,
                worker.held_device_mb,
            )
            for worker in found
        ],
    )


@app.command("devices")
def list_devices(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List what workers run on: memory in MB, and what jobs and warm models hold of it."""
    found = administration.find_devices(stores_of(config).database)
    if as_json:
        print_json([{**asdict(device), "free_mb": device.free_mb} for device in found])
        return
    print_table(
        "Devices",
        ("machine", "device", "memory", "held", "free"),
        [(each.host, each.name, each.memory_mb, each.held_mb, each.free_mb) for each in found],
    )


def _state(worker: WorkerStatus) -> str:
    if worker.draining:
        return "drained" if worker.job_id is None else "draining"
    return "idle" if worker.job_id is None else "busy"
