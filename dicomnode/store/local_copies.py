"""Copies of objects on this machine's disk: bounded, checked as they come, kept for who reads them."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from uuid import uuid4

import structlog

from dicomnode.errors import NotFound
from dicomnode.store.objects import Spool, disk_errors, new_spool, remove_stale

log = structlog.get_logger()

IN_HAND_S = 600.0
"""Who asked for a copy opens it within this time: until then it stays."""
_TURNS = 256
"""Locks, by digest: what several ask for at once is fetched once."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")

Write = Callable[[memoryview], object]
Fetch = Callable[[str, Write], None]
"""Writes the object of a digest; raises NotFound and ObjectsAway."""


class LocalCopies:
    """Files named by their digest under `root`, of at most `limit` bytes: the least recently used goes first.

    Shared by all processes of a node. They are not synced, so none is trusted after this machine was started
    again. `minimum_free`: bytes that must stay free on the file system.
    """

    def __init__(self, root: Path, limit: int, minimum_free: int, fetch: Fetch) -> None:
        self._root, self._limit, self._minimum_free, self._fetch = root, limit, minimum_free, fetch
        self.folder = root / _BOOT.read_text(encoding="ascii").strip()
        self._held, self._temporary = root / "held", root / "tmp"
        for folder in (self.folder, self._held, self._temporary):
            folder.mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self.folder / f"{number:02x}").mkdir(exist_ok=True)
        self._turns = [threading.Lock() for _ in range(_TURNS)]
        # Nobody has looked yet how much there is.
        self._added = limit

    def path(self, sha256: str) -> Path:
        """Where the copy lies, whether it is there or not."""
        return self.folder / sha256[:2] / sha256

    def get(self, sha256: str) -> Path:
        """A checked copy, fetched where it is not here. It stays for IN_HAND_S at least.

        Raises NotFound where there is no such object, or where its bytes are other ones; StoreError.
        """
        path = self.path(sha256)
        if self._used(path):
            return path
        with self._turns[int(sha256[:2], 16) % _TURNS]:
            if self._used(path):
                return path
            self._bring(sha256)
        return path

    def spool(self, size: int) -> Spool:
        """A file beside the copies that may become one. Raises StorageFull and DiskFailed."""
        if shutil.disk_usage(self._root).free - size < self._minimum_free:
            self._make_room(size)
        return new_spool(self._temporary, size, self._minimum_free)

    def adopt(self, spool: Spool) -> None:
        """A complete spool becomes the copy of its object. Raises StorageFull and DiskFailed."""
        stored = spool.stored
        path = self.path(stored.sha256)
        with disk_errors(self._minimum_free):
            spool.close()
            spool.path.replace(path)
        spool.path, spool.kept = path, True
        self._added += stored.size
        if self._added > self._limit // 20:
            self._make_room(0)

    def drop(self, sha256: str) -> None:
        """Have no copy of it."""
        self.path(sha256).unlink(missing_ok=True)

    @contextmanager
    def held(self, digests: Sequence[str]) -> Iterator[None]:
        """Have a copy of each, and keep them all while the block runs: what has a second name stays.

        Raises NotFound and StoreError, as `get`.
        """
        folder = self._held / uuid4().hex
        with ExitStack() as stack:
            with disk_errors(self._minimum_free):
                folder.mkdir()
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                stack.enter_context(_locked(folder, fcntl.LOCK_SH))
            for sha256 in dict.fromkeys(digests):
                path = self.get(sha256)
                with disk_errors(self._minimum_free):
                    os.link(path, folder / sha256)
            yield

    def remove_stale(self) -> int:
        """Remove what processes left that have died, and what was here before the machine was started.

        Returns how many files that were, copies apart.
        """
        for folder in self._root.iterdir():
            if folder not in (self.folder, self._held, self._temporary):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self._held.iterdir():
            with suppress(OSError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(folder)
        return remove_stale(self._temporary)

    def _used(self, path: Path) -> bool:
        """True where the copy is here; it counts as used just now."""
        with _locked(self._temporary, fcntl.LOCK_SH):
            try:
                os.utime(path)
            except FileNotFoundError:
                return False
        return True

    def _bring(self, sha256: str) -> None:
        spool = self.spool(0)
        try:
            self._fetch(sha256, spool.write)
            if spool.stored.sha256 != sha256:
                log.error("object.changed", sha256=sha256)
                raise NotFound("object", sha256)
            self.adopt(spool)
        finally:
            spool.discard()

    def _make_room(self, needed: int) -> None:
        """Take copies away until a tenth of the limit is free, and `needed` bytes of the disk."""
        with suppress(BlockingIOError), _locked(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB):
            copies = sorted(self._copies(), key=attrgetter("used_at"))
            total = sum(copy.size for copy in copies)
            self._added = 0
            lacking = needed + 2 * self._minimum_free - shutil.disk_usage(self._root).free
            too_much = max(total - self._limit * 9 // 10 if total > self._limit else 0, lacking)
            for copy in copies:
                if too_much <= 0:
                    break
                too_much -= self._take_away(copy)

    def _copies(self) -> Iterator[_Copy]:
        for folder in os.scandir(self.folder):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    yield _Copy(Path(entry.path), entry.stat())

    def _take_away(self, copy: _Copy) -> int:
        """The bytes that are free now; 0 where somebody has the copy in hand."""
        with _locked(self._temporary, fcntl.LOCK_EX), suppress(FileNotFoundError):
            found = copy.path.stat()
            if found.st_nlink == 1 and found.st_mtime < time.time() - IN_HAND_S:
                copy.path.unlink()
                return found.st_size
        return 0


class _Copy:
    __slots__ = ("path", "size", "used_at")

    def __init__(self, path: Path, found: os.stat_result) -> None:
        self.path, self.size, self.used_at = path, found.st_size, found.st_mtime


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """A lock on a folder; the kernel lets go of it with its process. Raises BlockingIOError, if so asked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
