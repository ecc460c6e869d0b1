"""The object store on local files: content-addressed, durable before it says so."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

from dicomnode.errors import DiskFailed, NotFound, StorageFull
from dicomnode.model.instance import StoredObject
from dicomnode.store.durably import make_folder, sync_folder

YOUNG_S = 3600.0
"""A file that is younger may belong to a writer, or to a transaction, that has not ended."""
SYNC_THREADS = 8
"""The file system joins the syncs that wait at the same time."""
_SYNCS_AHEAD = 32
_SPACE_STEP = 64_000_000
_LAST = 4_000_000
_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(name: str) -> bool:
    """True for what names an object: a SHA-256 in small letters."""
    return _DIGEST.fullmatch(name) is not None


class ObjectStore:
    """Files named by the SHA-256 of their content, under `root`.

    `minimum_free`: bytes that must stay free on the file system.
    """

    is_local = True

    def __init__(self, root: Path, minimum_free: int) -> None:
        self._objects, self._temporary = root / "objects", root / "tmp"
        self._minimum_free = minimum_free
        make_folder(root)
        for folder in (self._objects, self._temporary):
            folder.mkdir(exist_ok=True)
        there = set(os.listdir(self._objects))  # noqa: PTH208  names, not paths
        for name in {f"{number:02x}" for number in range(256)} - there:
            (self._objects / name).mkdir(exist_ok=True)
        # Whoever made them: their entries survive from now on.
        for folder in (root, self._objects):
            sync_folder(folder)
        # Its threads start with the first object, so that a process may fork before.
        self._pool = ThreadPoolExecutor(SYNC_THREADS, "sync")
        self._ahead = threading.BoundedSemaphore(_SYNCS_AHEAD)

    @property
    def folder(self) -> Path:
        """Under which every object lies."""
        return self._objects

    @property
    def place_name(self) -> str:
        """What an administrator calls it."""
        return str(self._objects)

    def check(self) -> None:
        """Raises nothing: what this machine's disk has to say, each call says."""

    def put(self, *chunks: bytes) -> StoredObject:
        """Keep the joined chunks; on return they survive a power failure.

        Raises StorageFull, and DiskFailed where the disk refused: nothing is kept then.
        """
        spool = self.spool(sum(map(len, chunks)))
        for chunk in chunks:
            spool.write(chunk)
        return self.keep([spool])[0]

    def spool(self, size: int = 0) -> Spool:
        """A new object that is written little by little; `size`: its least length, if known.

        Raises StorageFull and DiskFailed.
        """
        return new_spool(self._temporary, size, self._minimum_free)

    def seal(self, spool: Spool, *, ahead: bool) -> None:
        """The spool is complete: the disk takes it, while this thread goes on.

        `ahead`: another thread syncs it; that costs more than it gains, unless further spools come first.
        """
        if not ahead:
            spool.begin_to_write_out()
            return
        self._ahead.acquire()
        spool.syncing = self._pool.submit(spool.sync_file)
        spool.syncing.add_done_callback(lambda _: self._ahead.release())

    def keep(self, spools: Sequence[Spool]) -> list[StoredObject]:
        """Name them, sync their bytes, then their folders; on return they survive a power failure.

        Raises StorageFull and DiskFailed: nothing is left then.
        """
        with all_or_none(spools, self._minimum_free):
            for spool in spools:
                spool.move(self.path(spool.stored.sha256))
            self._at_once([spool.sync for spool in spools])
            folders = {spool.path.parent: None for spool in spools}
            with _sync_errors():
                self._at_once([partial(sync_folder, folder) for folder in folders])
        for spool in spools:
            spool.kept = True
        return [spool.stored for spool in spools]

    def _at_once(self, syncs: Sequence[Callable[[], None]]) -> None:
        """The file system joins the syncs that wait at the same time."""
        others = [self._pool.submit(sync) for sync in syncs[1:]]
        try:
            for sync in syncs[:1]:
                sync()
        finally:
            if others:
                wait(others)
        for other in others:
            other.result()

    def path(self, sha256: str) -> Path:
        """Where the object of that digest lies, whether it is there or not."""
        if not is_digest(sha256):
            raise NotFound("object", sha256)
        return self._objects / sha256[:2] / sha256

    def located(self, sha256: str) -> Path:
        """The same: here a file needs not be fetched."""
        return self.path(sha256)

    def held(self, _: Sequence[str]) -> AbstractContextManager[None]:
        """Nothing here is taken away under who reads it: what a job may read is not let go of."""
        return nullcontext()

    def has(self, sha256: str) -> bool:
        """True where the object is there."""
        return self.path(sha256).exists()

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
        for path in self._objects.glob("*/*"):
            with suppress(FileNotFoundError):
                written_at = path.stat().st_mtime
                if now - seconds <= written_at <= now - YOUNG_S and is_digest(path.name):
                    yield path.name

    def remove_stale_temporaries(self) -> int:
        """Remove what writers left that died more than an hour ago; returns how many there were."""
        return remove_stale(self._temporary)


class Spool:
    """An object that is being written, under a name that nobody knows; hashed as it is written.

    One that is not kept has to be discarded.
    """

    def __init__(self, path: Path, require_space: Callable[[int], None], minimum_free: int) -> None:
        self.path, self._require_space, self._minimum_free = path, require_space, minimum_free
        self._file = path.open("wb", buffering=0)
        self._inode = os.fstat(self._file.fileno()).st_ino
        self._digest, self._size, self._checked_at = hashlib.sha256(), 0, 0
        self.syncing: Future[None] | None = None
        self.kept = False

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes. Raises StorageFull and DiskFailed."""
        view = memoryview(chunk)
        self._digest.update(view)
        self._size += len(view)
        if self._size - self._checked_at > _SPACE_STEP:
            self._require_space(len(view))
            self._checked_at = self._size
        with disk_errors(self._minimum_free):
            while view:
                view = view[self._file.write(view) :]

    @property
    def stored(self) -> StoredObject:
        """What the object is called once it is kept."""
        return StoredObject(self._digest.hexdigest(), self._size)

    def begin_to_write_out(self) -> None:
        """Have the disk begin with the last bytes, which a sync would wait for; promises nothing."""
        # What is on the disk already leaves the memory by this: of the last bytes hardly any.
        os.posix_fadvise(self._file.fileno(), max(0, self._size - _LAST), 0, os.POSIX_FADV_DONTNEED)

    def move(self, final: Path) -> None:
        """Give it its name. Raises OSError."""
        try:
            # No row names it before it is synced: until then nobody looks for it under this name.
            os.link(self.path, final)
            self.path.unlink()
        except FileExistsError:
            # The bytes that are there may be all that is left of an instance that was acknowledged.
            self.sync()
            self.path.replace(final)
            # Now it is what is left of it, whatever becomes of this request.
            self.kept = True
        self.path = final

    def sync(self) -> None:
        """Return when the bytes survive a power failure. Raises DiskFailed."""
        with _sync_errors():
            if self.syncing is not None:
                self.syncing.result()
            elif not self._file.closed:
                self.sync_file()

    def sync_file(self) -> None:
        """Sync and close the file, in this thread. Raises OSError."""
        try:
            _sync_file(self._file.fileno())
        finally:
            self._file.close()

    def close(self) -> None:
        """It is complete, and needs not survive where it lies."""
        self._file.close()

    def discard(self) -> None:
        """Leave nothing of it, unless it was kept."""
        if self.kept:
            return
        if self.syncing is not None and not self.syncing.cancel():
            self.syncing.exception()
        self._file.close()
        # What cannot be taken away is swept one day; why it is discarded must not be hidden by that.
        with suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()


def new_spool(folder: Path, size: int, minimum_free: int) -> Spool:
    """A spool in `folder`; `size`: its least length, if known. Raises StorageFull and DiskFailed."""

    def require_space(size: int) -> None:
        free = shutil.disk_usage(folder).free
        if free - size < minimum_free:
            raise StorageFull(free, minimum_free)

    require_space(size)
    with disk_errors(minimum_free):
        return Spool(folder / uuid4().hex, require_space, minimum_free)


def remove_stale(folder: Path) -> int:
    """Remove the spools of writers that died more than an hour ago; returns how many there were."""
    removed = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - YOUNG_S:
                path.unlink()
                removed += 1
    return removed


@contextmanager
def all_or_none(spools: Sequence[Spool], minimum_free: int) -> Iterator[None]:
    """Where one of them cannot be kept, nothing is left of any. Raises StorageFull and DiskFailed."""
    try:
        with disk_errors(minimum_free):
            yield
    except BaseException:
        for spool in spools:
            spool.discard()
        raise


@contextmanager
def disk_errors(minimum_free: int) -> Iterator[None]:
    """What the disk refuses, as our errors. Raises StorageFull and DiskFailed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(0, minimum_free) from error
        raise DiskFailed(f"cannot keep an object: {error.strerror}") from error


@contextmanager
def _sync_errors() -> Iterator[None]:
    """Whatever the reason: the kernel may forget what it could not write, and the next sync succeeds."""
    try:
        yield
    except OSError as error:
        raise DiskFailed(f"cannot sync an object: {error.strerror}") from error


def _sync_file(descriptor: int) -> None:
    os.fdatasync(descriptor)
