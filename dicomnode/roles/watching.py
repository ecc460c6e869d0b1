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

PAUSE_S = 0.2
"""How long a role without work waits before it looks again."""


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
    place = hashlib.sha256(str(config.node.data).encode()).hexdigest()[:16]
    return f"{socket.gethostname()[:40]}-{place}"
