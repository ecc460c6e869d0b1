"""What an instance costs on its way in: seconds of the processor in each kind of process, by database.

Unlike a rate that hardly depends on what else the machine does; `benchmarks/scaling.py` plans with it.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psutil
from line import Lines, lower
from rich.console import Console

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scanner import Target, seconds_to_store  # noqa: E402

from tests.harness.nodes import RunningNode  # noqa: E402
from tests.harness.postgres import postgres_programs, running_postgres  # noqa: E402

INSTANCES, SIDE, ASSOCIATIONS = 1200, 512, 4


def measure(folder: Path, console: Console) -> Lines:  # noqa: ARG001  nothing is kept
    """The lines of this benchmark, ms of one core for an instance of 0.5 MB, lower is better."""
    lines: Lines = {}
    with ExitStack() as stack:
        servers = {"SQLite": ("", 0)}
        if (programs := postgres_programs()) is not None:
            server = stack.enter_context(running_postgres(programs))
            server.execute("CREATE DATABASE {}", "cost")
            pid = (server.folder / "data" / "postmaster.pid").read_text().split()[0]
            servers["PostgreSQL"] = (server.url("cost"), int(pid))
        for name, (url, pid) in servers.items():
            for kind, ms in _measured(url, pid).items():
                console.print(f"ingest cost, {name}, {kind}: {ms:.2f} ms")
                lines[f"ingest cost, {name}: {kind}"] = lower(ms, None, "ms")
    return lines


def _measured(url: str, database_pid: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "pipelines").mkdir()
        environment = {"DICOMNODE_DATABASE_URL": url} if url else {}
        node = RunningNode(folder / "node", pipelines=folder / "pipelines", environment=environment).start()
        try:
            target = Target("NODE", node.port)
            seconds_to_store(target, SIDE, 100, ASSOCIATIONS)
            before = _by_kind(node, database_pid)
            seconds_to_store(target, SIDE, INSTANCES, ASSOCIATIONS)
            after = _by_kind(node, database_pid)
        finally:
            node.stop()
    return {kind: 1000 * (seconds - before[kind]) / INSTANCES for kind, seconds in after.items()}


def _by_kind(node: RunningNode, database_pid: int) -> dict[str, float]:
    started = [event for event in node.events() if event["event"] == "process.started"]
    seconds = {"receivers": 0.0, "engine": 0.0}
    for event in started:
        kind = "receivers" if event["process"].startswith("receiver") else event["process"]
        if kind in seconds:
            seconds[kind] += _cpu_s(event["pid"])
    return seconds | ({"database": _cpu_s(database_pid)} if database_pid else {})


def _cpu_s(pid: int) -> float:
    """Of a process and all that it has started; those that have ended are counted in it."""
    first = psutil.Process(pid)
    others = sum(sum(child.cpu_times()[:2]) for child in first.children(recursive=True))
    return float(sum(first.cpu_times()[:4]) + others)


if __name__ == "__main__":
    from run import table

    _console = Console()
    _console.print(table(measure(ROOT / "build" / "bench", _console)))
