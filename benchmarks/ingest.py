"""Storing by C-STORE, beside other receivers and beside what the disk allows.

One sender for all (`scanner`): requests made beforehand, TCP_NODELAY set, associations open before the clock
starts. The receivers are processes of their own on one disk, take turns, and get instances new to them each
time; the median rate of the turns counts. Orthanc syncs a file before it answers; ours syncs files, folders
and rows; the others sync nothing and keep no catalog. tiny-pacs is not among them: 0.4.1 hangs up on more
than one association at a time ("database table is locked").
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import ingest_sides as sides
from disk_limit import seconds_to_write
from line import Lines, higher, lower
from rich.console import Console
from scanner import Target, seconds_to_store, seconds_to_store_one

TURNS = 3
LARGE_GB = 2.0
MEMORY_GOAL_MB = 200.0
LIMIT_GOAL = 0.7


@dataclass(frozen=True, slots=True)
class Work:
    """So many instances of `side` by `side` pixels; the goals beside Orthanc by associations."""

    name: str
    side: int
    instances: int
    goals: dict[int, float]


WORKS = (
    Work("300 CT of 512²", 512, 300, {1: 1.5, 4: 2.0, 16: 2.0}),
    Work("1,000 of 64²", 64, 1000, {1: 1.0, 4: 2.0, 16: 2.0}),
)
AT_FOUR = {"storescp": 0.5, "pynetdicom": 2.0}
"""The goals beside those that are measured with four associations."""
_PIXEL_BYTES, _HEADER_BYTES = 2, 1100


def measure(folder: Path, console: Console) -> Lines:
    """The lines of this benchmark; instances a second, higher is better."""
    work = folder / "ingest"
    shutil.rmtree(work, ignore_errors=True)
    lines: Lines = {}
    with _receivers(work) as receivers:
        for each in WORKS:
            for associations in each.goals:
                lines |= _compared(each, associations, receivers, console)
        lines |= _large(receivers, console)
    shutil.rmtree(work)
    return lines


@contextmanager
def _receivers(folder: Path) -> Iterator[dict[str, Target]]:
    started: dict[str, Target] = {}
    with ExitStack() as running:
        for name, start in sides.SIDES.items():
            started[name] = running.enter_context(start(folder / name))
        (folder / "disk").mkdir()
        yield started | {"disk": Target(str(folder / "disk"), 0)}


def _compared(work: Work, associations: int, receivers: dict[str, Target], console: Console) -> Lines:
    goals = {"orthanc": work.goals[associations], "disk": LIMIT_GOAL}
    if associations == 4:
        goals |= AT_FOUR
    rates: dict[str, list[float]] = {name: [] for name in ("dicomnode", *goals)}
    for turn in range(TURNS):
        console.print(
            f"ingest: {work.name}, {associations} at a time, turn {turn + 1}, load {os.getloadavg()[0]:.1f}"
        )
        for name, results in rates.items():
            target = receivers[name]
            seconds = _on_disk if name == "disk" else _by_network
            results.append(work.instances / seconds(target, work, associations))
    ours = statistics.median(rates.pop("dicomnode"))
    return {
        f"ingest: {work.name}, {associations} associations, beside {sides.NAMES[name]}": higher(
            ours, statistics.median(results), "/s", goals[name]
        )
        for name, results in rates.items()
    }


def _by_network(target: Target, work: Work, associations: int) -> float:
    return seconds_to_store(target, work.side, work.instances, associations)


def _on_disk(target: Target, work: Work, associations: int) -> float:
    size = work.side * work.side * _PIXEL_BYTES + _HEADER_BYTES
    return seconds_to_write(Path(target.ae_title), size, work.instances, associations)


def _large(receivers: dict[str, Target], console: Console) -> Lines:
    """One multi-frame instance, and the most memory that a process of the node had by then."""
    rates = {}
    for name in ("dicomnode", "orthanc"):
        console.print(f"ingest: one instance of {LARGE_GB:g} GB, {name}")
        target = receivers[name]
        rates[name] = LARGE_GB * 1000 / seconds_to_store_one(target, LARGE_GB)
        if name == "dicomnode":
            memory = sides.peak_memory_mb(target)
    large = f"ingest: one multi-frame instance of {LARGE_GB:g} GB"
    return {
        f"{large}, beside Orthanc": higher(rates["dicomnode"], rates["orthanc"], "MB/s", 2.0),
        f"{large}: peak memory of a receiver, beside the goal": lower(memory, MEMORY_GOAL_MB, "MB", 1.0),
    }


if __name__ == "__main__":
    from run import table

    _console = Console()
    _console.print(table(measure(Path(__file__).parents[1] / "build" / "bench", _console)))
