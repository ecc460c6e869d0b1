"""Work that several wait for is done at once, by one of them for all: one sync, one transaction."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class _Waiter(Generic[Item, Outcome]):
    def __init__(self, item: Item) -> None:
        self.item = item
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.is_done = False


class GroupCommit(Generic[Item, Outcome]):
    """Called from several threads; whoever's turn it is works off up to `limit` of what waits.

    `work` takes items and returns the outcome of each. What it raises is raised to all who waited for it.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Outcome]], limit: int) -> None:
        self._work, self._limit = work, limit
        self._turn = threading.Lock()
        self._waiting: deque[_Waiter[Item, Outcome]] = deque()

    def __call__(self, item: Item) -> Outcome:
        """The outcome of one item, as soon as it is there."""
        mine: _Waiter[Item, Outcome] = _Waiter(item)
        self._waiting.append(mine)
        with self._turn:
            while not mine.is_done:
                self._work_off([self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))])
        if mine.error is not None:
            raise mine.error
        return mine.outcome  # type: ignore[return-value]

    def _work_off(self, group: Sequence[_Waiter[Item, Outcome]]) -> None:
        try:
            outcomes = self._work([waiter.item for waiter in group])
            for waiter, outcome in zip(group, outcomes, strict=True):
                waiter.outcome = outcome
        except BaseException as error:  # noqa: BLE001  it is raised to those who wait
            for waiter in group:
                waiter.error = error
        for waiter in group:
            waiter.is_done = True
