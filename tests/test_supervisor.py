"""What dies is started again; what would only fail again, or needs the whole node, ends the others too."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from dicomnode.errors import ConfigError, DiskFailed
from dicomnode.supervisor import EXIT_CONFIG, EXIT_DISK, Supervisor
from tests.peers import wait_for


def forever() -> int:
    signal.pause()
    return 0


def supervised(bodies, stop: threading.Event) -> tuple[threading.Thread, list[int]]:
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(Supervisor(bodies, 10.0).run(stop)))
    thread.start()
    return thread, status


def test_a_process_that_was_killed_is_started_again(tmp_path: Path):
    def body() -> int:
        (tmp_path / str(os.getpid())).touch()
        return forever()

    stop = threading.Event()
    thread, status = supervised({"worker": body}, stop)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 1)
    os.kill(int(next(tmp_path.iterdir()).name), signal.SIGKILL)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    stop.set()
    thread.join(30)
    assert status == [0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ConfigError("config.toml", ["wrong"]), EXIT_CONFIG), (DiskFailed("EIO"), EXIT_DISK)],
)
def test_a_process_that_cannot_be_helped_by_a_start_of_its_own_ends_all(error: Exception, expected: int):
    def broken() -> int:
        raise error

    began = time.monotonic()
    thread, status = supervised({"broken": broken, "sound": forever}, threading.Event())
    thread.join(60)
    assert status == [expected]
    assert time.monotonic() - began < 60
