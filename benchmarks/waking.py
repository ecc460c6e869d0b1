"""How soon work is noticed: from "the series is complete" to the first step of the network, when it is warm.

A node of its own with a very small pipeline gets one small series after another, on SQLite and on PostgreSQL.
What passes is the signal to the engine, the rules, the job's row, the signal to the worker, the claim, the
check of every stored instance against its digest, and decoding; three commits are synced. And what an idle
node costs, in percent of one core.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psutil
from line import Lines, lower
from rich.console import Console

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.harness.heads import small_series, write_series  # noqa: E402
from tests.harness.nodes import RunningNode, send_files, wait_for  # noqa: E402
from tests.harness.postgres import postgres_programs, running_postgres  # noqa: E402
from tests.harness.toy_pipeline import write_toy_pipeline  # noqa: E402

GOAL_S = 0.050
SERIES = 15
IDLE_S = 15.0
_FORWARD = "print('forward', time.time(), file=__import__('sys').stderr, flush=True)"
_ROUTE = '[[route]]\nname = "all"\nwhen = "true"\npipeline = "toy"\n'


def measure(folder: Path, console: Console) -> Lines:  # noqa: ARG001  nothing is kept
    """The lines of this benchmark; `theirs` is the goal, lower is better."""
    lines: Lines = {}
    with ExitStack() as stack:
        urls = {"SQLite": ""}
        if (programs := postgres_programs()) is not None:
            server = stack.enter_context(running_postgres(programs))
            server.execute("CREATE DATABASE {}", "waking")
            urls["PostgreSQL"] = server.url("waking")
        for name, url in urls.items():
            seconds, idle = _measured(url)
            console.print(f"waking, {name}: {_spread(seconds)} from complete to forward; idle {idle:.2f} %")
            lines[f"waking, {name}: complete to forward, median"] = lower(
                statistics.median(seconds), GOAL_S, "s", 1.0
            )
            lines[f"waking, {name}: an idle node, of one core"] = lower(idle, None, "%")
    return lines


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f} ms"


def _measured(url: str) -> tuple[list[float], float]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_toy_pipeline(folder / "pipelines", extra=_FORWARD)
        environment = {"DICOMNODE_DATABASE_URL": url} if url else {}
        node = RunningNode(
            folder / "node", pipelines=folder / "pipelines", routes=_ROUTE, environment=environment
        ).start()
        try:
            seconds = [_one(node, folder, number) for number in range(SERIES + 1)][1:]
            return seconds, _idle_percent(node)
        finally:
            node.stop()


def _one(node: RunningNode, folder: Path, number: int) -> float:
    """Send one series; the seconds from its completion to its forward pass."""
    files = write_series(folder / str(number), small_series())
    assert not any(send_files(node.peer, files).values())
    wait_for("the job", lambda: node.status()["jobs"].get("done", 0) > number)
    forward = [line for line in _stderr(node).splitlines() if line.startswith("forward")][-1]
    completed = max(
        completion["completed_at"]
        for study in node.status()["list"]
        for series in study["series"]
        for completion in series["completions"]
    )
    return float(forward.split()[1]) - completed.astimezone(UTC).timestamp()


def _stderr(node: RunningNode) -> str:
    return "".join(file.read_text() for file in (node.folder / "data" / "scratch").rglob("stderr.log"))


def _idle_percent(node: RunningNode) -> float:
    """Of one core, all processes of the node together."""
    time.sleep(5)
    processes = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
    before, started = _cpu_s(processes), datetime.now(UTC)
    time.sleep(IDLE_S)
    return 100 * (_cpu_s(processes) - before) / (datetime.now(UTC) - started).total_seconds()


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    for line, values in measure(ROOT / "build" / "bench", Console()).items():
        print(line, values)
