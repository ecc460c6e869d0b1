"""Release and removal on both databases: two steps, and a second look in between."""

from __future__ import annotations

from sqlalchemy import select, update

from dicomnode.model.delivery import DeliveryState
from dicomnode.model.job import JobState
from dicomnode.store import retention
from dicomnode.store.clock import Now
from dicomnode.store.retention import Kind, Terms
from dicomnode.store.schema import completion, delivery, instance, job, result
from tests.store.builders import finished_job

TERMS = Terms(unused=True)


def over(database) -> None:
    """Everything is routed, and confirmed."""
    finished_job(database)
    with database.begin() as tx:
        tx.execute(update(completion).values(routed_at=Now()))
        tx.execute(update(delivery).values(state=DeliveryState.CONFIRMED))


def test_the_older_one_is_first_and_each_is_released_once(database):
    over(database)
    with database.begin() as tx:
        first, second = retention.oldest(tx, TERMS, -1)
        assert [first] == retention.oldest(tx, TERMS, -1, limit=1)
        assert first.kind is Kind.SERIES
        assert retention.release(tx, first) == 1001 + 1002 + 1003
        assert retention.oldest(tx, TERMS, -1) == [second]
        assert second.kind is Kind.RESULT
        assert retention.release(tx, second) == 1
        assert retention.oldest(tx, TERMS, -1) == []
        assert retention.oldest(tx, TERMS, 3600) == []
        assert {candidate.kind for candidate in retention.leaving(tx)} == {Kind.SERIES, Kind.RESULT}
        assert (retention.kept_bytes(tx), retention.leaving_bytes(tx)) == (0, 3007)


def test_what_is_released_is_removed_and_what_has_to_wait_is_asked_for_again(database):
    over(database)
    asked: list[str] = []

    def take_away(sha256: str) -> bool:
        asked.append(sha256)
        return len(asked) != 1

    with database.begin() as tx:
        for candidate in retention.oldest(tx, TERMS, -1):
            retention.release(tx, candidate)
    for _ in range(2):
        with database.begin() as tx:
            for candidate in retention.leaving(tx):
                retention.remove(tx, candidate, TERMS, take_away)
    with database.begin() as tx:
        assert retention.leaving(tx) == []
        assert None not in tx.execute(select(instance.c.removed_at)).scalars()
        assert None not in tx.execute(select(result.c.removed_at)).scalars()
    assert len(asked) == 5


def test_a_release_is_taken_back_where_a_job_needs_the_series_again(database):
    over(database)
    with database.begin() as tx:
        candidate, _ = retention.oldest(tx, TERMS, -1)
        retention.release(tx, candidate)
        tx.execute(update(job).values(state=JobState.READY))
        assert retention.remove(tx, candidate, TERMS, lambda _: True) == 0
        assert retention.leaving(tx) == []
        assert set(tx.execute(select(instance.c.released_at)).scalars()) == {None}


def test_a_destination_that_nobody_asks_holds_nothing_up(database):
    over(database)
    with database.begin() as tx:
        tx.execute(update(delivery).values(state=DeliveryState.SENT))
        assert retention.oldest(tx, TERMS, -1) == []
        assert [each.kind for each in retention.oldest(tx, Terms(["pacs"], unused=True), -1)] == [Kind.SERIES]
