"""The object store on local files: content-addressed, durable before it says so."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from dicomnode.errors import DiskFailed, NotFound, StorageFull
from dicomnode.model.instance import StoredObject

YOUNG_S = 3600.0
"""A file that is younger may belong to a writer, or to a transaction, that has not ended."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ObjectStore:
    """Files named by the SHA-256 of their content, under `root`.

    `minimum_free`: bytes that must stay free on the file system.
    """

    def __init__(self, root: Path, minimum_free: int) -> None:
        self._objects, self._temporary = root / "objects", root / "tmp"
        self._minimum_free = minimum_free
        for folder in (self._objects, self._temporary):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (root.parent, root):
            _sync_folder(folder)
        self._synced = {self._objects}

    @property
    def folder(self) -> Path:
        """Under which every object lies."""
        return self._objects

    def put(self, *chunks: bytes) -> StoredObject:
        """Keep the joined chunks; on return they survive a power failure.

        Raises StorageFull, and DiskFailed where the disk refused: nothing is kept then.
        """
        self._require_space(sum(map(len, chunks)))
        temporary = self._temporary / uuid4().hex
        try:
            stored = _write_durably(temporary, chunks)
            final = self.path(stored.sha256)
            self._make_folder_durably(final.parent)
            temporary.replace(final)
            _sync_folder(final.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(0, self._minimum_free) from error
            raise DiskFailed(f"cannot keep an object: {error.strerror}") from error
        return stored

    def path(self, sha256: str) -> Path:
        """Where the object of that digest lies, whether it is there or not."""
        if not _DIGEST.fullmatch(sha256):
            raise NotFound("object", sha256)
        return self._objects / sha256[:2] / sha256[2:4] / sha256

    def read(self, sha256: str) -> bytes:
        """The object's bytes; raises NotFound."""
        try:
            return self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise NotFound("object", sha256) from None

    def holds(self, stored: StoredObject) -> bool:
        """True where the object is there with the size it had when it was kept."""
        try:
            return self.path(stored.sha256).stat().st_size == stored.size
        except FileNotFoundError:
            return False

    def intact(self, sha256: str) -> bool:
        """True where the object's bytes still have the digest that names them."""
        try:
            with self.path(sha256).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            return False

    def remove(self, sha256: str) -> None:
        """Take an object away; it may be gone already."""
        self.path(sha256).unlink(missing_ok=True)

    def is_old(self, sha256: str) -> bool:
        """True where the object is there and nobody has written it of late."""
        try:
            return self.path(sha256).stat().st_mtime <= time.time() - YOUNG_S
        except FileNotFoundError:
            return False

    def changed_since(self, seconds: float) -> Iterator[str]:
        """The digests of the objects that were written in the last `seconds`, and at least an hour ago.

        One that is younger may belong to a transaction that has not ended.
        """
        now = time.time()
        for path in self._objects.glob("*/*/*"):
            with suppress(FileNotFoundError):
                written_at = path.stat().st_mtime
                if now - seconds <= written_at <= now - YOUNG_S and _DIGEST.fullmatch(path.name):
                    yield path.name

    def remove_stale_temporaries(self) -> int:
        """Remove what writers left that died more than an hour ago; returns how many there were."""
        removed = 0
        for path in self._temporary.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - YOUNG_S:
                    path.unlink()
                    removed += 1
        return removed

    def _make_folder_durably(self, folder: Path) -> None:
        """Folders whose entry this process has not synced itself may have been made a moment ago."""
        missing = []
        while folder not in self._synced:
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            new.mkdir(exist_ok=True)
            _sync_folder(new.parent)
            self._synced.add(new)

    def _require_space(self, size: int) -> None:
        free = shutil.disk_usage(self._objects).free
        if free - size < self._minimum_free:
            raise StorageFull(free, self._minimum_free)


def _write_durably(path: Path, chunks: tuple[bytes, ...]) -> StoredObject:
    digest, size = hashlib.sha256(), 0
    with path.open("wb", buffering=0) as file:
        for chunk in chunks:
            view = memoryview(chunk)
            digest.update(view)
            while view:
                view = view[file.write(view) :]
            size += len(chunk)
        os.fdatasync(file.fileno())
    return StoredObject(digest.hexdigest(), size)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
