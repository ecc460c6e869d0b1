"""From the last C-STORE response to SEG and SR confirmed in the archive, less what no node can save.

200 slices of 256², a warm model, a second dicomnode as the archive, asked by C-FIND. The quiet period and the
network's own forward pass are taken off: what is left is noticing, routing, checking, reading, encoding, the
gates, sending and confirming. Beside it stand the seconds of each stage.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from line import Lines, lower
from pydicom.dataset import Dataset
from rich.console import Console

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dicomnode.demo.journey import Journey, read_journey, stages  # noqa: E402
from dicomnode.store.database import Database  # noqa: E402
from tests.harness.heads import small_series, write_series  # noqa: E402
from tests.harness.nodes import RunningNode, send_files, wait_for  # noqa: E402
from tests.harness.toy_pipeline import write_toy_pipeline  # noqa: E402

SLICES, SIDE, TURNS = 200, 256, 5
QUIET_S = 2.0
GOAL_S = 1.0
_ROUTE = """
[[destination]]
name = "archive"
dimse = {{ ae_title = "ARCHIVE", host = "127.0.0.1", port = {port} }}
[[route]]
name = "all"
when = "true"
pipeline = "toy"
send_to = ["archive"]
"""


def measure(folder: Path, console: Console) -> Lines:  # noqa: ARG001  nothing is kept
    """The line of this benchmark; `theirs` is the goal, lower is better."""
    with tempfile.TemporaryDirectory() as temporary:
        seconds = _measured(Path(temporary), console)
    ours = statistics.median(seconds)
    name = f"results: {SLICES} slices, last response to confirmed, less quiet period and forward pass"
    return {name: lower(ours, GOAL_S, "s", 1.0)}


def _measured(folder: Path, console: Console) -> list[float]:
    pipelines = folder / "pipelines"
    _write_pipeline(pipelines)
    archive = RunningNode(folder / "archive", pipelines=pipelines, ae_title="ARCHIVE").start()
    routes = _ROUTE.format(port=archive.port)
    node = RunningNode(folder / "node", pipelines=pipelines, routes=routes, quiet_s=QUIET_S).start()
    try:
        # The first one loads the model.
        return [_one(node, folder / str(turn), console) for turn in range(TURNS + 1)][1:]
    finally:
        node.stop()
        archive.stop()


def _write_pipeline(folder: Path) -> None:
    """The toy, whose label map is one comparison: torch takes seconds of the CPU for an argmax."""
    inference = write_toy_pipeline(folder) / "configs" / "inference.json"
    config = json.loads(inference.read_text())
    labels = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda pred: (pred[1:] > 0).to(torch.uint8)"}
    config["postprocessing"]["transforms"] = [labels]
    inference.write_text(json.dumps(config))


def _one(node: RunningNode, folder: Path, console: Console) -> float:
    series = _series()
    files = write_series(folder, series)
    assert not any(send_files(node.peer, files).values())
    answered_at = datetime.now(UTC)
    database = Database(f"sqlite:///{node.folder / 'data' / 'dicomnode.sqlite3'}")
    try:
        journey = wait_for("the confirmation", lambda: _confirmed(database, series[0]))
    finally:
        database.close()
    confirmed_at = max(each.confirmed_at for each in journey.results if each.confirmed_at)
    assert journey.run is not None
    waited_s = QUIET_S + journey.run.timings["forward"]
    seconds = (confirmed_at - answered_at).total_seconds() - waited_s
    each = ", ".join(f"{stage} {of:.2f}" for stage, of in stages(journey))
    console.print(f"results: {seconds:.2f} s, load {os.getloadavg()[0]:.1f} ({each})")
    return seconds


def _confirmed(database: Database, ds: Dataset) -> Journey | None:
    time.sleep(0.2)
    journey = read_journey(database, ds.StudyInstanceUID, ds.SeriesInstanceUID)
    done = journey is not None and journey.run is not None
    return journey if done and journey.confirmed == len(journey.results) == 2 else None


def _series() -> list[Dataset]:
    made = small_series(SLICES)
    for ds in made:
        plane = np.full((SIDE, SIDE), 100, "<u2")
        plane[60:160, 80:180] = 900
        ds.Rows, ds.Columns, ds.PixelData = SIDE, SIDE, plane.tobytes()
    return made


if __name__ == "__main__":
    from run import table

    _console = Console()
    _console.print(table(measure(ROOT / "build" / "bench", _console)))
