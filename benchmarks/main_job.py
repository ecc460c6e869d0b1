"""The main job: the seconds of each stage, and the whole way beside the network's bare forward pass.

The demo is played with two series. The second finds the model warm, as every series but the first does in a
hospital. Its way from the first byte sent to the archive's proof, less the quiet period, is compared with the
forward pass alone, timed in a process of its own on the same series.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

from line import Lines, lower
from rich.console import Console

from dicomnode.demo.journey import stages
from dicomnode.demo.play import Scene, new_folder, play
from dicomnode.demo.servers import QUIET_S

ROOT = Path(__file__).parents[1]
GOAL = 3.0
"""The whole way may take this many times the bare forward pass."""


def measure(folder: Path, console: Console) -> Lines:
    """The lines of this benchmark; all in seconds, lower is better."""
    scene = Scene(
        folder=new_folder(folder, datetime.now().astimezone()),
        pipelines=ROOT / "pipelines",
        pipeline="brain_tissue",
        series=None,
        archive=None,
        limit_s=900.0,
        scans=2,
    )
    played = play(scene, console)
    journey = played.journey
    bare = bare_forward(Path(played.series.instances[0].path).parent)
    lines = {f"main job: {stage}": lower(seconds, None, "s") for stage, seconds in stages(journey)}
    confirmed = max(result.confirmed_at for result in journey.results if result.confirmed_at)
    whole = (confirmed - journey.first_instance_at).total_seconds() - QUIET_S
    lines["main job: all but the quiet period, beside the bare forward pass"] = lower(whole, bare, "s", GOAL)
    return lines


def bare_forward(series: Path, device: str = "cpu", passes: int = 3) -> float:
    """The median seconds of so many forward passes over a series, in a process of its own."""
    script = Path(__file__).parent / "bare_forward.py"
    command = [sys.executable, str(script), str(series), device, str(passes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    return float(done.stdout.split()[-1])
