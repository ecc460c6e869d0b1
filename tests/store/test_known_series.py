"""Instances of series that are known are entered as all others are, by fewer and cheaper statements."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, text

from dicomnode.errors import StorageFailed
from dicomnode.model.instance import Arrival, AssociationFacts
from dicomnode.store import catalog, completions
from dicomnode.store.database import Database
from dicomnode.store.known_series import NotKnown, add_to_known
from dicomnode.store.schema import instance, series

from .builders import ASSOCIATION, arrival

CLOCKED = {"id", "received_at", "first_instance_at", "last_instance_at", "study_id", "SeriesInstanceUID"}
OF_ANOTHER = {"series_id", "SOPInstanceUID", "sha256"}


def add(database: Database, *arrivals: Arrival) -> None:
    with database.begin() as tx:
        catalog.add_instances(tx, arrivals)


def add_known(database: Database, *arrivals: Arrival) -> None:
    with database.begin_bare() as tx:
        add_to_known(tx, arrivals)


def rows(database: Database, uid: str) -> list[dict[str, object]]:
    """The rows of a series and of its instances, without what differs from series to series."""
    with database.read() as tx:
        held = tx.execute(select(series).where(series.c.SeriesInstanceUID == uid)).mappings().one()
        kept = select(instance).where(instance.c.series_id == held["id"]).order_by(instance.c.id)
        instances = tx.execute(kept).mappings().all()
    return [
        {name: row[name] for name in row if name not in CLOCKED | OF_ANOTHER} for row in (held, *instances)
    ]


def test_what_is_entered_in_either_way_is_the_same(database: Database):
    one, other = (tuple(arrival(number, uid) for number in (1, 2, 3)) for uid in ("1.2.3.4", "1.2.3.5"))
    add(database, *one)
    add(database, other[0])
    before = rows(database, "1.2.3.5")
    add_known(database, *other[1:])
    assert rows(database, "1.2.3.5") == rows(database, "1.2.3.4") != before
    assert completed(database) == 2


def completed(database: Database) -> int:
    with database.begin() as tx:
        return len(completions.complete_due(tx, 0, 3600, listened_s=3600))


def test_an_instance_by_another_association_is_that_ones(database: Database):
    add(database, arrival(1))
    later = AssociationFacts("assoc-2", "CT1", "DICOMNODE", "127.0.0.1")
    add_known(database, arrival(2, association=later))
    add(database, arrival(3, association=later))
    of_series, first, second, third = rows(database, "1.2.3.4")
    assert first["association_id"] != second["association_id"]
    assert second["association_id"] == third["association_id"] == of_series["association_id"]


UNKNOWN = {
    "a series that is new": [arrival(1, "1.2.3.9")],
    "an instance that is there": [arrival(2), arrival(1)],
    "an instance that comes twice": [arrival(2), arrival(2)],
    "an instance that was asked for": [arrival(2, association=replace(ASSOCIATION, asked=True))],
}


@pytest.mark.parametrize("arrivals", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_is_more_than_a_new_instance_is_not_entered_here(database: Database, arrivals: list[Arrival]):
    add(database, arrival(1))
    before = rows(database, "1.2.3.4")
    with pytest.raises(NotKnown):
        add_known(database, *arrivals)
    assert rows(database, "1.2.3.4") == before


def test_a_series_that_is_complete_is_not_opened_here(database: Database):
    add(database, arrival(1))
    assert completed(database) == 1
    with pytest.raises(NotKnown):
        add_known(database, arrival(2))


def test_what_the_database_refuses_leaves_nothing_and_the_next_transaction_goes_on(database: Database):
    add(database, arrival(1))

    def fail() -> None:
        with database.begin_bare() as tx:
            add_to_known(tx, [arrival(2)])
            tx.first(text("SELECT * FROM no_such_table"), {})

    with pytest.raises(StorageFailed, match="refused"):
        fail()
    add_known(database, arrival(2))
    assert len(rows(database, "1.2.3.4")) == 3


def test_a_server_that_hangs_up_is_called_again(database: Database):
    add(database, arrival(1))

    def lose() -> None:
        with database.begin_bare() as tx:
            if tx.dialect == "sqlite":
                pytest.skip("a file does not hang up")
            tx.first(text("SELECT pg_terminate_backend(pg_backend_pid())"), {})

    with pytest.raises(StorageFailed, match="cannot be reached"):
        lose()
    add_known(database, arrival(2))
    assert len(rows(database, "1.2.3.4")) == 3


def test_a_server_that_is_not_there_is_no_fault_of_the_instance():
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StorageFailed, match="cannot be reached"), database.begin_bare():
        pass
    database.close()
