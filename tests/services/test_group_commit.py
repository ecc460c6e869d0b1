"""Work that several wait for is done for all of them at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicomnode.services.group_commit import GroupCommit
from tests.peers import wait_for


class Work:
    """Doubles numbers, as soon as it may; remembers what came together."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may_go_on = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.groups.append(list(items))
        assert self.may_go_on.wait(20)
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


@pytest.mark.parametrize(("limit", "groups"), [(64, 2), (3, 4)])
def test_what_waits_meanwhile_is_done_together(limit: int, groups: int) -> None:
    work = Work()
    commit = GroupCommit(work, limit)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(commit, 0)
        wait_for(lambda: work.groups)
        others = [pool.submit(commit, number) for number in range(1, 9)]
        wait_for(lambda: len(commit._waiting) == 8)
        work.may_go_on.set()
        assert [each.result(20) for each in (first, *others)] == [2 * number for number in range(9)]
    assert len(work.groups) == groups
    assert sorted(item for group in work.groups for item in group) == list(range(9))


def test_what_fails_is_raised_to_all_who_waited_for_it_and_to_nobody_else() -> None:
    work = Work()
    commit = GroupCommit(work, 64)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(commit, 0)
        wait_for(lambda: work.groups)
        others = [pool.submit(commit, number) for number in (12, 13)]
        wait_for(lambda: len(commit._waiting) == 2)
        work.may_go_on.set()
        assert first.result(20) == 0
        for each in others:
            with pytest.raises(ValueError, match="13"):
                each.result(20)
        assert commit(4) == 8
