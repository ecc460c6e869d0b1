"""How often each address may do something: a bucket that fills again as time goes by."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

_MOST_ADDRESSES = 10_000
Address = IPv4Address | IPv6Address


class Rate:
    """`at_once` times, and then `per_second` on average. For one thread at a time."""

    def __init__(self, at_once: int, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._per_second, self._clock = at_once, per_second, clock
        self._buckets: dict[Address, tuple[float, float]] = {}

    def take(self, address: Address) -> bool:
        """Once more for this address; False where it has to wait."""
        now = self._clock()
        left = self._left(address, now)
        if left < 1:
            return False
        if len(self._buckets) >= _MOST_ADDRESSES:
            full = [each for each in self._buckets if self._left(each, now) >= self._at_once]
            for each in full or list(self._buckets):
                del self._buckets[each]
        self._buckets[address] = (left - 1, now)
        return True

    def is_empty(self, address: Address) -> bool:
        """True where the address would have to wait."""
        return self._left(address, self._clock()) < 1

    def _left(self, address: Address, now: float) -> float:
        left, at = self._buckets.get(address, (float(self._at_once), now))
        return min(float(self._at_once), left + (now - at) * self._per_second)
