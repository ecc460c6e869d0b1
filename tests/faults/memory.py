"""Folders that cost no disk: what is played there syncs a lot, and its speed is not what is tested."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108  each folder has a name of its own


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory where there is one; gone after the block."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        yield Path(name)
