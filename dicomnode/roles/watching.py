"""What the roles share: how long they rest, how a failing disk ends them, and what a listener is called."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from dicomnode.config import Config
from dicomnode.errors import DiskFailed

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

LOOK_S = 2.0
"""A role without work that hears no signal looks at the rows so often."""
ARRIVING_S = 0.2
"""While a series arrives, its silence is measured so often."""


def watch_disk(
    call: Callable[Asked, Answer], failed: threading.Event, stop: threading.Event
) -> Callable[Asked, Answer]:
    """The same call; where the disk fails in it, both events are set."""

    def watched(*args: Asked.args, **named: Asked.kwargs) -> Answer:
        try:
            return call(*args, **named)
        except DiskFailed:
            failed.set()
            stop.set()
            raise

    return watched


def listener_name(config: Config) -> str:
    """The same after a restart, on whatever port: what a killed receiver left is then its successor's."""
    return f"{socket.gethostname()[:40]}-{_place(config)}"


def worker_name(config: Config, process: str) -> str:
    """What an administrator calls a worker: the same after a restart, another on every machine."""
    return f"{process}@{machine_name(config)}"


def machine_name(config: Config) -> str:
    """Whose memory its workers share."""
    return f"{socket.gethostname()[:40]}-{_place(config)[:4]}"


def _place(config: Config) -> str:
    return hashlib.sha256(str(config.node.data).encode()).hexdigest()[:16]
