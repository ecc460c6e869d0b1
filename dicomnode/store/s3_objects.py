"""The object store on S3: an object counts as kept when S3 has it; this machine holds only copies."""

from __future__ import annotations

import errno
import hashlib
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, takewhile
from os import PathLike
from pathlib import Path

from dicomnode.errors import NotFound, StoreError
from dicomnode.model.instance import StoredObject
from dicomnode.model.located import Located
from dicomnode.store.bucket import Bucket
from dicomnode.store.local_copies import LocalCopies
from dicomnode.store.objects import YOUNG_S, Spool, all_or_none, is_digest

_PUTS_AT_ONCE = 8
_REMEMBERED = 10_000
_LIST_S = 10.0
"""How long a start may look for objects that nobody names; the next one looks elsewhere first."""


class S3Objects:
    """Objects under `ab/abcd…` in the bucket: the first two digits spread the keys, and bound a list.

    `root` is where copies and spools lie; it may be lost at any time. `copies`: bytes of copies that stay.
    """

    is_local = False

    def __init__(self, root: Path, bucket: Bucket, copies: int, minimum_free: int) -> None:
        self._bucket, self._minimum_free = bucket, minimum_free
        self._copies = LocalCopies(root / "copies", copies, minimum_free, self._fetch)
        # Its threads start with the first object, so that a process may fork before.
        self._pool = ThreadPoolExecutor(_PUTS_AT_ONCE, "put")
        self._created: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def place_name(self) -> str:
        """The bucket and its endpoint."""
        return self._bucket.place_name

    @property
    def folder(self) -> Path:
        """Under which every copy lies."""
        return self._copies.folder

    def check(self) -> None:
        """Raises ObjectsAway where the bucket cannot be listed now."""
        next(self._bucket.list(), None)

    def put(self, *chunks: bytes) -> StoredObject:
        """Keep the joined chunks. Raises StorageFull, DiskFailed and ObjectsAway."""
        spool = self.spool(sum(map(len, chunks)))
        for chunk in chunks:
            spool.write(chunk)
        return self.keep([spool])[0]

    def spool(self, size: int = 0) -> Spool:
        """A new object that is written little by little, here. Raises StorageFull and DiskFailed."""
        return self._copies.spool(size)

    def seal(self, spool: Spool, *, ahead: bool) -> None:
        """Nothing: what is not placed may yet be refused, and S3 should not have it then."""

    def keep(self, spools: Sequence[Spool]) -> list[StoredObject]:
        """Put them into the bucket, several at a time; on return S3 has them, and the spools are copies.

        Raises as `put`; then none is left here. What S3 has of them is swept up later: another may have
        put the same.
        """
        with all_or_none(spools, self._minimum_free):
            others = [self._pool.submit(self._put, spool) for spool in spools[1:]]
            try:
                for spool in spools[:1]:
                    self._put(spool)
            finally:
                errors = [other.exception() for other in others]
            for error in filter(None, errors):
                raise error
            for spool in spools:
                self._copies.adopt(spool)
        return [spool.stored for spool in spools]

    def path(self, sha256: str) -> Path:
        """A copy of the object, for who opens it now. Raises FileNotFoundError, NotFound and StoreError."""
        _require_digest(sha256)
        try:
            return self._copies.get(sha256)
        except NotFound as error:
            raise FileNotFoundError(str(error)) from None

    def located(self, sha256: str) -> PathLike[str]:
        """A copy that is fetched when it is opened, which raises OSError, whatever the reason."""
        _require_digest(sha256)
        return Located(partial(self._opened, sha256))

    @contextmanager
    def held(self, digests: Sequence[str]) -> Iterator[None]:
        """Copies of all of them stay while the block runs. Raises FileNotFoundError and StoreError."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._copies.held(digests))
            except NotFound as error:
                raise FileNotFoundError(str(error)) from None
            yield

    def read(self, sha256: str) -> bytes:
        """The object's bytes; raises NotFound."""
        _require_digest(sha256)
        return self._copies.get(sha256).read_bytes()

    def has(self, sha256: str) -> bool:
        """True where S3 has the object."""
        return self._bucket.head(_key(sha256)) is not None

    def holds(self, stored: StoredObject) -> bool:
        """True where S3 has it with the size that it had when it was kept.

        What this process created just now is not asked for: who removes looks first whether it is old.
        """
        with self._lock:
            if stored.sha256 in self._created:
                del self._created[stored.sha256]
                return True
        head = self._bucket.head(_key(stored.sha256))
        return head is not None and head.size == stored.size

    def intact(self, sha256: str) -> bool:
        """True where the bytes have the digest that names them: those of the copy, or else those of S3."""
        _require_digest(sha256)
        try:
            if _digest(self._copies.get(sha256)) != sha256:
                self._copies.drop(sha256)
                self._copies.get(sha256)
        except NotFound:
            return False
        return True

    def remove(self, sha256: str) -> None:
        """Take an object away from S3; it may be gone already."""
        with self._lock:
            self._created.pop(sha256, None)
        self._bucket.delete(_key(sha256))
        self._copies.drop(sha256)

    def is_old(self, sha256: str) -> bool:
        """True where S3 has the object and nobody has put it of late."""
        head = self._bucket.head(_key(sha256))
        return head is not None and head.age_s >= YOUNG_S

    def changed_since(self, seconds: float) -> Iterator[str]:
        """Digests of objects that were put in the last `seconds`, and at least an hour ago.

        S3 lists by name alone, a thousand at a time: of a large bucket it is a part, from anywhere on.
        """
        until, begin = time.monotonic() + _LIST_S, f"{random.randrange(256):02x}/"  # noqa: S311  no secret
        rounds = (self._bucket.list(begin), takewhile(lambda each: each[0] < begin, self._bucket.list()))
        for key, head in chain.from_iterable(rounds):
            name = key.rpartition("/")[2]
            if YOUNG_S <= head.age_s <= seconds and is_digest(name):
                yield name
            if time.monotonic() > until:
                return

    def remove_stale_temporaries(self) -> int:
        """Remove what processes left here that have died; returns how many files that were."""
        return self._copies.remove_stale()

    def _opened(self, sha256: str) -> Path:
        try:
            return self.path(sha256)
        except StoreError as error:
            raise OSError(errno.EIO, str(error)) from error

    def _put(self, spool: Spool) -> None:
        """Put it if absent. What is there for long is put again: whoever sweeps sees that it is young."""
        sha256, size = spool.stored.sha256, spool.stored.size
        created = self._bucket.put(_key(sha256), spool.path)
        with self._lock:
            self._created.pop(sha256, None)
            if created:
                self._created[sha256] = None
            if len(self._created) > _REMEMBERED:
                self._created.popitem(last=False)
        if created:
            return
        head = self._bucket.head(_key(sha256))
        if head is None or head.size != size or head.age_s > YOUNG_S / 2:
            self._bucket.put(_key(sha256), spool.path, replace=True)

    def _fetch(self, sha256: str, write: Callable[[memoryview], object]) -> None:
        self._bucket.get(_key(sha256), write)


def _key(sha256: str) -> str:
    _require_digest(sha256)
    return f"{sha256[:2]}/{sha256}"


def _require_digest(sha256: str) -> None:
    if not is_digest(sha256):
        raise NotFound("object", sha256)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
