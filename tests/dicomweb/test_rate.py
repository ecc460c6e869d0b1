"""An address that asks too often is told so, and nobody else is."""

from __future__ import annotations

from ipaddress import ip_address

import httpx

from dicomnode.dicomweb import rate
from dicomnode.dicomweb.rate import Rate
from tests.dicomweb.web import serving

ONE, OTHER = ip_address("10.0.0.1"), ip_address("10.0.0.2")


def test_what_an_address_may_ask_comes_back_with_time():
    now = [0.0]
    limit = Rate(2, 2, lambda: now[0])
    assert [limit.take(ONE) for _ in range(3)] == [True, True, False]
    assert limit.is_empty(ONE)
    assert limit.take(OTHER)
    now[0] = 0.5
    assert [limit.take(ONE) for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [limit.take(ONE) for _ in range(3)] == [True, True, False]


def test_addresses_that_ask_no_more_are_forgotten(monkeypatch):
    monkeypatch.setattr(rate, "_MOST_ADDRESSES", 10)
    now = [0.0]
    limit = Rate(1, 1, lambda: now[0])
    for number in range(100):
        now[0] += 0.5
        limit.take(ip_address(number))
        assert len(limit._buckets) <= 10


def test_too_many_requests_are_429_and_say_when_to_come_again(tmp_path):
    with serving(tmp_path, requests_per_second=3) as web:
        answers = [httpx.get(f"{web.url}/studies", timeout=10) for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
