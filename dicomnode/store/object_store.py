"""What an object store is to the rest: bytes named by their SHA-256, kept once and never changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import Protocol

from dicomnode.model.instance import StoredObject
from dicomnode.store.objects import Spool


class Objects(Protocol):
    """Put if absent, get, head, delete, list; over local files, or over S3 with local copies.

    An object is whatever has the digest that names it: to put it again changes nothing, and no attempt,
    however late, can write other content. Safe to use from several threads at once. Every call raises
    StoreError where the store, or this machine's disk, does not do what it is asked; never waits for good.
    """

    @property
    def is_local(self) -> bool:
        """True where room in the store is room on this machine's disk."""
        ...

    @property
    def place_name(self) -> str:
        """What an administrator calls it."""
        ...

    @property
    def folder(self) -> Path:
        """Under which every file lies that `path` names."""
        ...

    def check(self) -> None:
        """Raises ObjectsAway where the store cannot be used now."""
        ...

    def put(self, *chunks: bytes) -> StoredObject:
        """Keep the joined chunks; on return they survive a power failure of this machine."""
        ...

    def spool(self, size: int = 0) -> Spool:
        """A new object that is written little by little; `size`: its least length, if known."""
        ...

    def seal(self, spool: Spool, *, ahead: bool) -> None:
        """The spool is complete; `ahead`: others follow before it is kept."""
        ...

    def keep(self, spools: Sequence[Spool]) -> list[StoredObject]:
        """Keep them all; on return they survive as above. Where it raises, none is left here."""
        ...

    def path(self, sha256: str) -> Path:
        """A file with the object's bytes, for who opens it now.

        Local files are named whether they are there or not. What S3 has is fetched and checked first, which
        raises FileNotFoundError where it has none. Raises NotFound where this is no digest.
        """
        ...

    def located(self, sha256: str) -> PathLike[str]:
        """The same, fetched no earlier than it is opened. Opening it raises OSError, whatever the reason."""
        ...

    def held(self, digests: Sequence[str]) -> AbstractContextManager[None]:
        """What `path` names stays there while the block runs. Raises FileNotFoundError, as `path` does."""
        ...

    def read(self, sha256: str) -> bytes:
        """The object's bytes. Raises NotFound."""
        ...

    def has(self, sha256: str) -> bool:
        """True where the store has the object."""
        ...

    def holds(self, stored: StoredObject) -> bool:
        """True where it has it with the size it had when it was kept."""
        ...

    def intact(self, sha256: str) -> bool:
        """True where the object's bytes still have the digest that names them."""
        ...

    def remove(self, sha256: str) -> None:
        """Take an object away; it may be gone already."""
        ...

    def is_old(self, sha256: str) -> bool:
        """True where the object is there and nobody has written it of late."""
        ...

    def changed_since(self, seconds: float) -> Iterator[str]:
        """Digests of objects that were written in the last `seconds`, and at least an hour ago.

        Perhaps not of all: what costs too long to list is left for another time.
        """
        ...

    def remove_stale_temporaries(self) -> int:
        """Remove what processes left here that have died; returns how many files that were."""
        ...
