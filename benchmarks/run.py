"""What `make bench` runs: each benchmark adds its lines, a table is printed, build/bench.json is written.

Every line has both sides from the same run: `ours` and `theirs`, the ratio ours/theirs, and which is better.
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
    lines: dict[str, dict[str, object]] = {}
    for measure in BENCHMARKS:
        lines |= measure(BUILD / "bench", console)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").write_text(json.dumps(lines, indent=2) + "\n")
    console.print(table(lines))
    return 0 if all(_met(line) for line in lines.values()) else 1


def table(lines: dict[str, dict[str, object]]) -> Table:
    """The lines as they are printed."""
    table = Table("", "ours", "theirs", "unit", "ratio", "goal", "better", header_style="bold")
    for name, line in lines.items():
        numbers = [_number(line[key]) for key in ("ours", "theirs")]
        table.add_row(
            name,
            *numbers,
            str(line["unit"]),
            _number(line["ratio"]),
            _number(line["goal"]),
            str(line["better"]),
        )
    return table


def _number(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, (int, float)) else "–"


def _met(line: dict[str, object]) -> bool:
    ratio, goal = line["ratio"], line["goal"]
    if not isinstance(ratio, (int, float)) or not isinstance(goal, (int, float)):
        return True
    return ratio <= goal if line["better"] == "lower" else ratio >= goal


if __name__ == "__main__":
    sys.exit(main())
