"""What the disk allows: a bare loop that writes the same bytes with the same syncs, as many at a time.

Each file is written, named and synced, then its folder; then a log is, once for all that wait at the same
time. Nothing is received, hashed, looked at or entered in a database.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from dicomnode.services.group_commit import GroupCommit

_LOG = 32_768
_LOG_SIZE = 64_000_000
_GROUP = 64


def seconds_to_write(folder: Path, size: int, files: int, at_once: int) -> float:
    """How long it takes until so many files of `size` bytes are durable."""
    for number in range(256):
        (folder / f"{number:02x}").mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log", os.O_RDWR | os.O_CREAT)
    os.pwrite(log, bytes(_LOG_SIZE), 0)
    os.fsync(log)
    data, at = os.urandom(size), 0

    def commit(group: Sequence[None]) -> Sequence[None]:
        nonlocal at
        os.pwrite(log, data[:_LOG].ljust(_LOG), at)
        os.fdatasync(log)
        at = (at + _LOG) % _LOG_SIZE
        return [None] * len(group)

    committed = GroupCommit(commit, _GROUP)

    def write() -> None:
        for _ in range(files // at_once):
            _write(folder, data)
            committed(None)

    threads = [threading.Thread(target=write) for _ in range(at_once)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    os.close(log)
    return seconds * files / (files // at_once * at_once)


def _write(folder: Path, data: bytes) -> None:
    name = os.urandom(16).hex()
    first, final = folder / name, folder / name[:2] / name
    descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(descriptor, data)
    first.rename(final)
    os.fdatasync(descriptor)
    os.close(descriptor)
    _sync_folder(final.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
