"""Mounts the file system that writes down what is done to it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import NOT_RUN_HERE
from tests.faults.forgetful import Operation
from tests.faults.recorder import FAIL, MARK
from tests.peers import wait_for


@contextmanager
def recorded(folder: Path) -> Iterator[tuple[Path, list[Operation]]]:
    """Such a file system in `folder` while the block runs; the log is full after it."""
    mountpoint, file, log = folder / "mount", folder / "log", list[Operation]()
    mountpoint.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.faults.recorder", str(mountpoint), str(file)]
    with (folder / "recording.log").open("wb") as out:
        server = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=out, stderr=out)
    try:
        wait_for(lambda: server.poll() is not None or mountpoint.is_mount())
        if server.poll() is not None:
            pytest.skip(f"{NOT_RUN_HERE}the right to mount a FUSE file system, or libfuse2")
        yield mountpoint, log
        _unmount(mountpoint)
        assert server.wait(30) == 0
        log += pickle.loads(file.read_bytes())  # noqa: S301  written by our own process
    finally:
        if server.poll() is None:
            _unmount(mountpoint)
            server.kill()
            server.wait(30)


def mark(mountpoint: Path, text: str) -> None:
    """Write down that this was said to the outside now."""
    os.setxattr(mountpoint, MARK, text.encode())


def fail_next_sync(file: Path) -> None:
    """The next sync of that file fails, and what it was to write is lost."""
    os.setxattr(file, FAIL, b"")


def _unmount(mountpoint: Path) -> None:
    command = ["umount"] if os.geteuid() == 0 else ["fusermount", "-u"]
    subprocess.run([*command, str(mountpoint)], check=False, capture_output=True)
