"""The folders that workers work in; each is one process's, by its number."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def scratch_folder(data: Path, worker: str) -> Path:
    """This process's own: a worker of the same name may still be ending."""
    return data / "scratch" / f"{worker}-{os.getpid()}"


def remove_scratch_of_the_dead(data: Path) -> int:
    """Remove what killed workers of this machine left; returns how many there were."""
    left = [folder for folder in (data / "scratch").glob("*-*") if not _is_alive(folder.name)]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return len(left)


def _is_alive(name: str) -> bool:
    number = name.rpartition("-")[2]
    return number.isdigit() and Path("/proc", number).exists()
