"""What `make bench` runs: each benchmark adds its lines, a table is printed, build/bench.json is written.

Every line has both sides from the same run (`line.py`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import growth
import ingest
import job_queue
import main_job
import reading
import result_latency
import segmentation
import throughput
import waking
import web_reading
import web_storing
from line import Lines
from rich.console import Console
from rich.table import Table

BUILD = Path(__file__).parents[1] / "build"
BENCHMARKS = (
    growth.measure,
    ingest.measure,
    job_queue.measure,
    main_job.measure,
    reading.measure,
    result_latency.measure,
    segmentation.measure,
    throughput.measure,
    waking.measure,
    web_reading.measure,
    web_storing.measure,
)


def main() -> int:
    """Run them all; exit status 1 where a goal is missed."""
    console = Console()
    lines: Lines = {}
    for measure in BENCHMARKS:
        lines |= measure(BUILD / "bench", console)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").write_text(
        json.dumps({name: line.told() for name, line in lines.items()}, indent=2) + "\n"
    )
    console.print(table(lines))
    return 0 if all(line.is_met for line in lines.values()) else 1


def table(lines: Lines) -> Table:
    """The lines as they are printed."""
    table = Table("", "ours", "theirs", "unit", "ratio", "goal", "better", header_style="bold")
    for name, line in lines.items():
        ours, theirs, ratio, goal = map(_number, (line.ours, line.theirs, line.ratio, line.goal))
        table.add_row(name, ours, theirs, line.unit, ratio, goal, line.better)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
