"""An address that asks too often has to wait, and nobody else has."""

from __future__ import annotations

import time

from dicomnode.dimse import rate
from dicomnode.dimse.rate import RequestRate
from tests.dimse.nodes import StartNode
from tests.dimse.test_receiver import associate


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_burst_is_served_at_once_and_what_is_beyond_it_at_the_rate():
    clock = Clock()
    limit = RequestRate(4, clock, clock.sleep)
    for _ in range(4):
        limit.wait("10.0.0.1")
    assert clock.now == 100.0
    for _ in range(8):
        limit.wait("10.0.0.1")
    assert clock.now == 102.0
    limit.wait("10.0.0.2")
    assert clock.now == 102.0


def test_addresses_that_ask_no_more_are_forgotten(monkeypatch):
    monkeypatch.setattr(rate, "_MOST_ADDRESSES", 10)
    clock = Clock()
    limit = RequestRate(4, clock, clock.sleep)
    for number in range(100):
        clock.now += 0.5
        limit.wait(f"10.0.0.{number}")
        assert len(limit._due) <= 10


def test_all_associations_of_an_address_share_its_rate(start_node: StartNode):
    node = start_node(requests_per_second=10)
    associations = [associate(node) for _ in range(2)]
    began = time.monotonic()
    assert [assoc.send_c_echo().Status for assoc in associations for _ in range(8)] == [0] * 16
    assert time.monotonic() - began > 0.5
    for assoc in associations:
        assoc.release()
