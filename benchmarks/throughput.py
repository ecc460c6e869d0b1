"""Volumes an hour, from stored series to encoded SEG and SR, beside a bare loop of the forward pass.

The series are stored and their jobs wait before the clock starts. Each slot is a worker with its own child
process, as in a node, and has run one job: its model is warm. What is timed is all that a slot does:
claim, digests, decoding, preprocessing, forward pass, measuring, encoding, gates, commit. The bare loop runs
before and after it, in a process of its own, on a series that is decoded and preprocessed once.

`python benchmarks/throughput.py [--device cuda] [--slots 4] [--volumes 40]` measures it on a GPU.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import structlog
from line import Lines, higher
from main_job import bare_forward
from rich.console import Console
from sqlalchemy import select

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dicomnode.config import Config  # noqa: E402
from dicomnode.demo.scanner import scan_mni  # noqa: E402
from dicomnode.installation import Stores, open_registry, open_stores  # noqa: E402
from dicomnode.services.execution import Worker  # noqa: E402
from dicomnode.services.ingest import Ingest  # noqa: E402
from dicomnode.services.routing import RouteTable, RoutingService  # noqa: E402
from dicomnode.services.running import LocalExecutor  # noqa: E402
from dicomnode.store import completions, overview  # noqa: E402
from dicomnode.store.schema import run  # noqa: E402
from tests.services.test_ingest import received  # noqa: E402

GOAL = 0.9
VOLUMES = 3
PASSES = 2
"""Of the bare loop, before and after."""


def measure(
    folder: Path, console: Console, device: str = "cpu", slots: int = 1, volumes: int = VOLUMES
) -> Lines:
    """The line of this benchmark; higher is better."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        config = _config(Path(temporary), device)
        stores = open_stores(config)
        stores.database.upgrade()
        series = [_store(stores, Path(temporary) / f"series-{n}") for n in range(volumes + slots)]
        RoutingService(stores.database, stores.objects, RouteTable(config), open_registry(config)).tick()
        bare = [bare_forward(series[0], device, PASSES)]
        console.print(f"throughput: a forward pass {bare[0]:.2f} s")
        ours_s = _run_all(stores, config, slots)
        console.print(f"throughput: {volumes} volumes in {ours_s:.1f} s")
        bare.append(bare_forward(series[0], device, PASSES))
        with stores.database.read() as tx:
            ended = overview.counts(tx)["jobs"]
            timings = (
                tx.execute(select(run.c.timings).order_by(run.c.id.desc()).limit(volumes)).scalars().all()
            )
        stores.database.close()
    if ended != {"done": volumes + slots}:
        raise RuntimeError(f"not every job was done: {ended}")
    console.print(f"throughput: a forward pass {bare[1]:.2f} s; of a job, in seconds: {_stages(timings)}")
    ours, theirs = 3600 * volumes / ours_s, 3600 / statistics.mean(bare)
    name = f"throughput: volumes an hour on {device}, slots: {slots}, beside a bare loop of the forward pass"
    return {name: higher(ours, theirs, "/h", GOAL)}


def _config(folder: Path, device: str) -> Config:
    return Config.model_validate(
        {
            "node": {"data": str(folder / "data"), "minimum_free_mb": 1},
            "workers": {"device": device, "lease_s": 600.0},
            "pipelines": {"folder": str(ROOT / "pipelines")},
            "route": [{"name": "all", "when": "true", "pipeline": "brain_tissue"}],
        }
    )


def _store(stores: Stores, folder: Path) -> Path:
    """One more head, stored and complete; the folder of its files."""
    ingest = Ingest(stores.database, stores.objects)
    datasets = [pydicom.dcmread(file) for file in scan_mni(folder)]
    for ds in datasets:
        ingest.store(received(ds))
    with stores.database.begin() as tx:
        completions.complete_ordered(tx, datasets[0].SeriesInstanceUID)
    return folder


def _run_all(stores: Stores, config: Config, slots: int) -> float:
    """The seconds for all jobs but the first of each slot."""
    registry, stop = open_registry(config), threading.Event()
    workers = [
        Worker(
            stores.database,
            LocalExecutor(
                stores.objects, registry, config.workers, config.node.data / "scratch" / str(number)
            ),
            config,
            f"slot-{number}",
        )
        for number in range(slots)
    ]

    def work(worker: Worker) -> None:
        while worker.tick(stop):
            pass

    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(lambda worker: worker.tick(stop), workers))
        started = time.perf_counter()
        list(pool.map(work, workers))
        seconds = time.perf_counter() - started
    for worker in workers:
        worker.close()
    return seconds


def _stages(timings: Sequence[Mapping[str, float]]) -> str:
    """The mean of each stage: where the rest of a job's time goes."""
    means = {stage: statistics.mean(each[stage] for each in timings) for stage in timings[0]}
    return ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in means.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--volumes", type=int, default=VOLUMES)
    asked = parser.parse_args()
    measured = measure(
        ROOT / "build" / "bench", Console(), asked.device, slots=asked.slots, volumes=asked.volumes
    )
    for name_, values in measured.items():
        print(name_, values)
