"""The disk that forgets forgets: only what was synced is sure to be there when the power has gone."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.forgetful import Mark, Operation, after_power_loss
from tests.faults.recording import mark, recorded

CUTS = 60


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def lose_nothing(disk: Path) -> None:
    (disk / "file").write_bytes(bytes(range(256)) * 16)
    sync(disk / "file")
    sync(disk)


def lose_the_bytes(disk: Path) -> None:
    (disk / "file").write_bytes(bytes(range(256)) * 16)
    sync(disk)


def lose_the_name(disk: Path) -> None:
    (disk / "file").write_bytes(bytes(range(256)) * 16)
    sync(disk / "file")


def lose_the_folder(disk: Path) -> None:
    (disk / "folder").mkdir()
    (disk / "folder" / "file").write_bytes(b"there")
    sync(disk / "folder" / "file")
    sync(disk / "folder")


def lose_the_new_name(disk: Path) -> None:
    (disk / "file").write_bytes(b"there")
    sync(disk / "file")
    sync(disk)
    os.link(disk / "file", disk / "other")
    (disk / "other").rename(disk / "third")


def lose_the_removal(disk: Path) -> None:
    (disk / "file").write_bytes(b"old")
    sync(disk / "file")
    sync(disk)
    (disk / "file").unlink()


def lose_the_overwriting(disk: Path) -> None:
    (disk / "file").write_bytes(bytes(1024))
    sync(disk / "file")
    sync(disk)
    with (disk / "file").open("r+b") as file:
        file.write(b"1" * 1024)


WHOLE = bytes(range(256)) * 16
SHOWN: dict[Callable[[Path], None], tuple[set[tuple[tuple[str, bytes], ...]], bool]] = {
    lose_nothing: ({(("file", WHOLE),)}, True),
    lose_the_bytes: ({(("file", b""),), (("file", WHOLE),), (("file", bytes(4096)),)}, False),
    lose_the_name: ({(), (("file", WHOLE),)}, True),
    lose_the_folder: ({(), (("folder/file", b"there"),)}, True),
    lose_the_new_name: (
        {
            (("file", b"there"),),
            (("file", b"there"), ("other", b"there")),
            (("file", b"there"), ("third", b"there")),
            (("file", b"there"), ("other", b"there"), ("third", b"there")),
        },
        True,
    ),
    lose_the_removal: ({(), (("file", b"old"),)}, True),
    lose_the_overwriting: (
        {(("file", first * 512 + second * 512),) for first in (b"\0", b"1") for second in (b"\0", b"1")},
        True,
    ),
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[Operation]:
    """Each of these in a folder of its own, whose name is synced."""
    with recorded(tmp_path_factory.mktemp("fuse")) as (disk, log):
        for work in SHOWN:
            folder = disk / work.__name__
            folder.mkdir()
            sync(disk)
            work(folder)
            mark(disk, work.__name__)
    return log


@pytest.mark.parametrize("work", SHOWN, ids=lambda work: work.__name__)
def test_what_is_there_when_the_power_has_gone(
    work: Callable[[Path], None], log: list[Operation], tmp_path: Path
) -> None:
    """Each of what may be there is seen; where `exact`, nothing else is."""
    seen = {_shown(log, work.__name__, seed, tmp_path / str(seed)) for seed in range(CUTS)}
    expected, exact = SHOWN[work]
    assert expected <= seen
    assert not exact or seen <= expected


def _shown(log: list[Operation], name: str, seed: int, folder: Path) -> tuple[tuple[str, bytes], ...]:
    end = log.index(Mark(name))
    after_power_loss(log, end, random.Random(seed)).write_out(folder)
    files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
    return tuple((str(path.relative_to(folder / name)), path.read_bytes()) for path in files)
