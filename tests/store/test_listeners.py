"""A silence counts only while every receiver could have heard."""

from __future__ import annotations

from sqlalchemy import update

from dicomnode.store import listeners
from dicomnode.store.clock import Now
from dicomnode.store.database import Database
from dicomnode.store.schema import listener


def listened_s(database: Database) -> float:
    with database.read() as tx:
        return listeners.listened_s(tx)


def begin(database: Database, name: str, since_s: float, silent_s: float = 0) -> None:
    """A receiver that began `since_s` ago and said so last `silent_s` ago."""
    with database.begin() as tx:
        listeners.begin(tx, name)
        tx.execute(
            update(listener)
            .where(listener.c.name == name)
            .values(since=Now(-since_s), seen_at=Now(-silent_s))
        )


def test_nobody_has_listened_where_there_is_no_receiver(database: Database):
    assert listened_s(database) == 0


def test_the_receiver_that_began_last_counts(database: Database):
    begin(database, "a", 100)
    assert 100 <= listened_s(database) < 110
    begin(database, "b", 20)
    assert 20 <= listened_s(database) < 30


def test_a_receiver_that_has_died_stops_the_count_until_it_is_back_or_given_up(database: Database):
    begin(database, "a", 100)
    begin(database, "b", 100, silent_s=listeners.GAP_S + 1)
    assert listened_s(database) == 0
    begin(database, "b", 100, silent_s=listeners.GONE_S + 1)
    assert listened_s(database) >= 100


def test_a_receiver_that_was_frozen_counts_from_its_waking(database: Database):
    begin(database, "a", 100, silent_s=listeners.GAP_S + 1)
    with database.begin() as tx:
        listeners.tell(tx, "a")
    assert listened_s(database) < 50


def test_a_receiver_that_ended_in_order_is_not_waited_for(database: Database):
    begin(database, "a", 100)
    begin(database, "b", 5)
    with database.begin() as tx:
        listeners.end(tx, "b")
    assert listened_s(database) >= 100
