"""How many requests a second each address may send: a bucket that fills again as time goes by."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from dicomnode.errors import TooManyRequests

_MOST_ADDRESSES = 10_000
Address = IPv4Address | IPv6Address


class RequestRate:
    """`per_second` requests on average, and as many at once. For one thread."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._clock = per_second, clock
        self._buckets: dict[Address, tuple[float, float]] = {}

    def take(self, address: Address) -> None:
        """One more request of this address. Raises TooManyRequests."""
        now = self._clock()
        left = self._left(address, now)
        if left < 1:
            raise TooManyRequests(self._per_second)
        if len(self._buckets) >= _MOST_ADDRESSES:
            full = [each for each in self._buckets if self._left(each, now) >= self._per_second]
            for each in full or list(self._buckets):
                del self._buckets[each]
        self._buckets[address] = (left - 1, now)

    def _left(self, address: Address, now: float) -> float:
        left, at = self._buckets.get(address, (float(self._per_second), now))
        return min(float(self._per_second), left + (now - at) * self._per_second)
