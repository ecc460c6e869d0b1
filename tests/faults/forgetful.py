"""What a disk may hold after the power went: what was synced, and of the rest whatever suits it.

A log of operations on files and folders is cut at any place; what the disk then shows is computed from it.
Nothing that was not synced is promised: the bytes and the size of a file come by its own sync, a name comes
by the sync of its folder. What is promised without one: the operations on one name happen in their order, a
rename never loses both names, and 512 bytes are written whole or not at all.
"""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = 1
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder was made; nothing leads to it yet."""

    inode: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder leads to a file or a folder from now on; to nothing where `target` is 0.

    `after`: the place in the log of the new name's entry where this is the old name's, in a rename.
    """

    inode: int
    name: str
    target: int
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes were written to a file."""

    inode: int
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Resize:
    """A file was cut or lengthened."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """fsync or fdatasync of a file or a folder returned."""

    inode: int


@dataclass(frozen=True, slots=True)
class FailedSync:
    """A sync failed. What was to be written is taken for written from then on, and never will be."""

    inode: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Something was said to the outside just then."""

    text: str


Operation = Folder | Entry | Write | Resize | Sync | FailedSync | Mark


def after_power_loss(log: Sequence[Operation], cut: int, rng: random.Random) -> Disk:
    """What a disk shows whose power went before operation `cut`."""
    kept = _surviving(log, cut, rng)
    disk = Disk()
    for place, operation in enumerate(log[:cut]):
        if place in kept:
            disk.apply(operation if place in kept.whole else _torn(operation, rng))
    for inode, size in kept.sizes.items():
        # The size came to the disk, what was written there did not.
        disk.apply(Resize(inode, max(size, len(disk.files[inode]))))
    return disk


class _Kept:
    """Places of the log: operations that are there, or a part of them; and files that are as long as this."""

    def __init__(self, whole: set[int]) -> None:
        self.whole = whole
        self.torn: set[int] = set()
        self.sizes: dict[int, int] = {}

    def __contains__(self, place: int) -> bool:
        return place in self.whole or place in self.torn


def _surviving(log: Sequence[Operation], cut: int, rng: random.Random) -> _Kept:
    synced, pending = _sorted_out(log[:cut])
    kept = _Kept(synced)
    # In order, as a journal would have it; or each file and name for itself; or nothing but what was synced.
    until = rng.choice((rng.randint(max(0, cut - 200), cut), None, 0))
    for inode, places in pending.items():
        if until is not None:
            kept.whole.update(place for place in places if place < until)
        elif isinstance(log[places[0]], Entry):
            _scatter_names(log, places, rng, kept)
        else:
            _scatter_bytes(log, inode, places, rng, kept)
    for place in sorted(kept.whole):
        # A file that was renamed is there under one of its names at least.
        operation = log[place]
        if isinstance(operation, Entry) and operation.after is not None and operation.after not in kept:
            kept.whole.discard(place)
    return kept


def _sorted_out(log: Sequence[Operation]) -> tuple[set[int], dict[int, list[int]]]:
    """The places of the operations that were synced; and by inode of those that nobody synced."""
    synced, pending = set[int](), dict[int, list[int]]()
    for place, operation in enumerate(log):
        match operation:
            case Folder():
                synced.add(place)
            case Entry() | Write() | Resize():
                pending.setdefault(operation.inode, []).append(place)
            case Sync():
                synced.update(pending.pop(operation.inode, []))
            case FailedSync():
                pending.pop(operation.inode, None)
    return synced, pending


def _scatter_names(log: Sequence[Operation], places: Sequence[int], rng: random.Random, kept: _Kept) -> None:
    """Of a folder that was not synced: what happened to each name, up to any moment."""
    names: dict[str, list[int]] = defaultdict(list)
    for place in places:
        operation = log[place]
        assert isinstance(operation, Entry)
        names[operation.name].append(place)
    for each in names.values():
        kept.whole.update(each[: rng.randint(0, len(each))])


def _scatter_bytes(
    log: Sequence[Operation], inode: int, places: Sequence[int], rng: random.Random, kept: _Kept
) -> None:
    """Of a file that was not synced: all, a beginning, or any part of what was done to it, torn somewhere."""
    manner = rng.random()
    chosen = places[: rng.randint(0, len(places))] if manner < 0.5 else places
    if manner > 0.6:
        chosen = [place for place in places if rng.random() < 0.5]
    kept.whole.update(chosen)
    if chosen and rng.random() < 0.5:
        torn = rng.choice((chosen[-1], rng.choice(chosen)))
        kept.whole.discard(torn)
        kept.torn.add(torn)
    if rng.random() < 0.3:
        writes = [each for each in map(log.__getitem__, places) if isinstance(each, Write)]
        kept.sizes[inode] = max((each.offset + len(each.data) for each in writes), default=0)


def _torn(operation: Operation, rng: random.Random) -> list[Write]:
    """The sectors of a write that came to the disk."""
    if not isinstance(operation, Write):
        return []
    first = operation.offset % SECTOR
    starts = [0, *range(SECTOR - first, len(operation.data), SECTOR)]
    pieces = [
        Write(operation.inode, operation.offset + start, operation.data[start:end])
        for start, end in zip(starts, [*starts[1:], len(operation.data)], strict=True)
    ]
    return [piece for piece in pieces if rng.random() < 0.5]


class Disk:
    """Files and folders by their inodes."""

    def __init__(self) -> None:
        self.folders: dict[int, dict[str, int]] = {ROOT: {}}
        self.files: dict[int, bytearray] = defaultdict(bytearray)

    def apply(self, operation: Operation | Iterable[Operation]) -> None:
        """Do it at once."""
        match operation:
            case Folder(inode):
                self.folders[inode] = {}
            case Entry(inode, name, 0):
                self.folders[inode].pop(name, None)
            case Entry(inode, name, target):
                self.folders[inode][name] = target
            case Write(inode, offset, data):
                content = self.files[inode]
                content.extend(bytes(max(0, offset - len(content))))
                content[offset : offset + len(data)] = data
            case Resize(inode, size):
                content = self.files[inode]
                del content[size:]
                content.extend(bytes(size - len(content)))
            case Sync() | FailedSync() | Mark():
                pass
            case _:
                for each in operation:
                    self.apply(each)

    def write_out(self, folder: Path, inode: int = ROOT, *, age_s: float = 0.0) -> None:
        """Show it as an ordinary folder, which must not be there yet; its files are so old."""
        changed_at = time.time() - age_s
        folder.mkdir()
        for name, target in self.folders[inode].items():
            if target in self.folders:
                self.write_out(folder / name, target, age_s=age_s)
            else:
                (folder / name).write_bytes(self.files[target])
                os.utime(folder / name, (changed_at, changed_at))
