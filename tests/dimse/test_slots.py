"""Places that several processes share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from dicomnode.dimse.slots import Slots

SPAWN = multiprocessing.get_context("spawn")


def take_many(file: Path, count: int, name: str, ours: Connection) -> None:
    slots = Slots(file, count)
    while True:
        ours.send(slots.take(name, count))
        if (place := ours.recv()) is not None:
            slots.give_back(place)


@contextmanager
def other_process(file: Path, count: int, name: str) -> Iterator[tuple[BaseProcess, Connection]]:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=take_many, args=(file, count, name, theirs), daemon=True)
    process.start()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("is_shared", [False, True])
def test_there_are_so_many_places_and_no_more(tmp_path: Path, is_shared: bool) -> None:
    slots = Slots(tmp_path / "slots" if is_shared else None, 3)
    places = [slots.take("a", 3) for _ in range(4)]
    assert places == [0, 1, 2, None]
    slots.give_back(1)
    assert slots.take("a", 3) == 1


def test_one_name_has_at_most_so_many(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", 5)
    assert [slots.take("a", 2) for _ in range(3)] == [0, 1, None]
    assert slots.take("b", 2) == 2
    slots.give_back(0)
    assert slots.take("a", 2) == 0


def test_processes_share_them_by_name_and_in_all(tmp_path: Path) -> None:
    ours = Slots(tmp_path / "slots", 3)
    with other_process(tmp_path / "slots", 3, "a") as (_, other):
        theirs = other.recv()
        assert theirs == 0
        assert ours.take("a", 1) is None
        assert [ours.take("b", 3) for _ in range(3)] == [1, 2, None]
        other.send(theirs)
        assert other.recv() == 0
        assert ours.take("b", 3) is None


def test_a_process_that_is_killed_keeps_none(tmp_path: Path) -> None:
    ours = Slots(tmp_path / "slots", 1)
    with other_process(tmp_path / "slots", 1, "a") as (process, other):
        assert other.recv() == 0
        assert ours.take("b", 1) is None
        process.kill()
        process.join()
        assert ours.take("b", 1) == 0
