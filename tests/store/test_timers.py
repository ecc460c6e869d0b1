"""The database's clock is set back: no timer may lie further ahead than it did."""

from __future__ import annotations

from sqlalchemy import insert, select, update

from dicomnode.store.clock import Now, read_clock
from dicomnode.store.database import Database
from dicomnode.store.schema import clock, listener, metadata
from dicomnode.store.timers import follow_clock


def ahead_s(database: Database) -> tuple[float, float]:
    """How far `since` and `seen_at` of the one listener lie ahead of the clock."""
    with database.read() as tx:
        row = tx.execute(select(listener.c.since, listener.c.seen_at)).one()
        now = read_clock(tx)
    return (row.since - now).total_seconds(), (row.seen_at - now).total_seconds()


def set_back(database: Database, seconds: float) -> None:
    """As the rows look after it: the clock was last seen later than it is now."""
    with database.begin() as tx:
        tx.execute(update(clock).values(seen_at=Now(seconds)))


def test_a_clock_that_goes_on_moves_nothing(database: Database) -> None:
    with database.begin() as tx:
        tx.execute(insert(listener).values(name="a", since=Now(-60), seen_at=Now(30)))
        assert follow_clock(tx) == 0.0
    with database.begin() as tx:
        assert follow_clock(tx) == 0.0
    since, seen = ahead_s(database)
    assert -61 < since <= -59
    assert 29 <= seen < 31


def test_what_lies_ahead_keeps_the_time_it_had_left_and_what_is_past_stays(database: Database) -> None:
    with database.begin() as tx:
        follow_clock(tx)
        tx.execute(insert(listener).values(name="a", since=Now(-60), seen_at=Now(3600 + 30)))
    set_back(database, 3600)
    with database.begin() as tx:
        assert 3599 < follow_clock(tx) <= 3600
    since, seen = ahead_s(database)
    assert -62 < since <= -59
    assert 28 < seen < 31
    with database.begin() as tx:
        assert follow_clock(tx) == 0.0


def test_what_time_servers_correct_is_no_set_back(database: Database) -> None:
    with database.begin() as tx:
        follow_clock(tx)
    set_back(database, 0.9)
    with database.begin() as tx:
        assert follow_clock(tx) == 0.0


def test_every_moment_that_is_waited_for_is_a_timer() -> None:
    """By its name: a new table with a timer that is not marked is found here."""
    names = {"not_before", "lease_expires_at", "deadline_at", "urgent_at", "last_instance_at", "begun_at"}
    unmarked = [
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name in names and "timer" not in column.info
    ]
    assert not unmarked


def test_a_moment_keeps_its_form(database: Database) -> None:
    """Moments are compared as text in SQLite."""
    with database.begin() as tx:
        follow_clock(tx)
        tx.execute(insert(listener).values(name="a", since=Now(), seen_at=Now(3600)))
    set_back(database, 1800)
    with database.begin() as tx:
        follow_clock(tx)
        later = tx.execute(select(listener.c.name).where(listener.c.seen_at > Now(1790))).all()
        sooner = tx.execute(select(listener.c.name).where(listener.c.seen_at < Now(1801))).all()
    assert later
    assert sooner
