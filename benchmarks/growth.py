"""Storing into a catalog of ten million instances, beside storing into an empty one.

Two whole nodes on SQLite; the large catalog is entered in bulk before they start. They take turns, with
instances new to both; the median rate counts.
"""

from __future__ import annotations

import os
import shutil
import statistics
from functools import partial
from pathlib import Path

import catalog
import ingest_sides as sides
from line import Lines, higher
from rich.console import Console
from scanner import seconds_to_store

INSTANCES = 10_000_000
GOAL = 0.8
TURNS, STORED, SIDE, ASSOCIATIONS = 7, 400, 64, 4


def measure(folder: Path, console: Console) -> Lines:
    """The lines of this benchmark; instances a second, higher is better."""
    work = folder / "growth"
    shutil.rmtree(work, ignore_errors=True)
    console.print(f"growth: entering {INSTANCES:,} instances")
    large, empty = [], []
    with (
        sides.dicomnode(work / "large", partial(catalog.fill, instances=INSTANCES)) as with_many,
        sides.dicomnode(work / "empty") as with_none,
    ):
        for turn in range(TURNS):
            console.print(f"growth: turn {turn + 1}, load {os.getloadavg()[0]:.1f}")
            for target, rates in ((with_many, large), (with_none, empty)):
                rates.append(STORED / seconds_to_store(target, SIDE, STORED, ASSOCIATIONS))
    shutil.rmtree(work)
    ours, theirs = statistics.median(large), statistics.median(empty)
    name = f"ingest: into a catalog of {INSTANCES:,} instances, beside an empty one"
    return {name: higher(ours, theirs, "/s", GOAL)}


if __name__ == "__main__":
    from run import table

    _console = Console()
    _console.print(table(measure(Path(__file__).parents[1] / "build" / "bench", _console)))
