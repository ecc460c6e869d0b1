"""Folders and files that survive a power failure, whatever happened to them before."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CHUNK = 1 << 20


def make_folder(folder: Path) -> None:
    """The folder is there, and stays there: it and those above it, whoever made them. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    device = folder.stat().st_dev
    for above in folder.resolve().parents:
        if above.stat().st_dev != device:
            return
        # Into what may not be read nothing was put by us.
        with suppress(PermissionError):
            sync_folder(above)


def sync_folder(folder: Path) -> None:
    """Return when the names in it survive a power failure. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_again(file: Path) -> None:
    """Write a file's own bytes to it and sync them; one that is not there stays so. Raises OSError.

    After a sync has failed the kernel may show what it has given up writing, and syncs nothing of it.
    """
    with suppress(FileNotFoundError), file.open("r+b", buffering=0) as content:
        while chunk := content.read(_CHUNK):
            content.seek(-len(chunk), os.SEEK_CUR)
            content.write(chunk)
        os.fsync(content.fileno())
        sync_folder(file.parent)
