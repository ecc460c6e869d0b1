"""This machine as a part of a Ray cluster, where the runs of others happen, or of which it is the first."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from functools import partial
from pathlib import Path

import structlog

from dicomnode.config import Config
from dicomnode.executors.ray_machine import machine_environment, require_usable, start_command
from dicomnode.services.scratch import remove_scratch_of_the_dead
from dicomnode.supervisor import die_with_parent

log = structlog.get_logger()

_LOOK_S = 0.2
_SAID = 500
"""So many characters of what Ray said last are logged when it ends."""


def run_machine(config: Config, file: Path, stop: threading.Event) -> int:
    """Keep Ray's processes on this machine until told to stop, or until one of them ends.

    `file`: the config.toml that those read which run here. Raises ConfigError.
    """
    require_usable(config.ray)
    remove_scratch_of_the_dead(config.node.data)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            start_command(config.ray),
            env=machine_environment(config.ray, file, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509  this process has no other thread
        )
        log.info("ray.started", address=config.ray.address, head=config.ray.is_head, pid=process.pid)
        while process.poll() is None and not stop.wait(_LOOK_S):
            pass
        if process.poll() is None:
            _end(process, config.node.stop_limit_s * 0.8)
            return 0
        said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID))
        log.error("ray.ended", returncode=process.returncode, said=said.read().decode(errors="replace"))
    return 1


def _end(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Ray ends its own processes; when it is killed, the kernel does."""
    process.terminate()
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
