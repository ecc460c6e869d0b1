"""A transaction that makes work wakes who waits for it, in whatever process; a lost signal loses nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dicomnode.errors import StorageFailed
from dicomnode.model.job import Priority
from dicomnode.model.topic import Topic
from dicomnode.services.repeating import Pace
from dicomnode.services.waking import Waking
from dicomnode.store import jobs, leases
from dicomnode.store.database import Database
from dicomnode.store.signals import announce
from tests.harness.schema import upgraded
from tests.store.builders import complete_series, new_job

ANNOUNCE = """
import sys
from dicomnode.model.topic import Topic
from dicomnode.store.database import Database
from dicomnode.store.signals import announce
database = Database(sys.argv[1])
with database.begin() as tx:
    announce(tx, Topic(sys.argv[2]))
database.close()
"""


@pytest.fixture
def database(database_url: str):
    database = upgraded(database_url)
    yield database
    database.close()


@pytest.fixture
def heard(database: Database):
    """What is heard; whoever has just begun to listen is told to look once, which is over here."""
    listener = database.listen()
    yield lambda timeout_s=10.0: set(listener.hear(timeout_s))
    listener.close()


def test_what_is_announced_is_heard_when_it_is_committed_and_not_before(database: Database, heard):
    with database.begin() as tx:
        announce(tx, Topic.JOB)
        assert heard(0.05) == set()
    assert heard() == {Topic.JOB}


def test_what_is_rolled_back_is_never_heard(database: Database, heard):
    def fail() -> None:
        with database.begin() as tx:
            announce(tx, Topic.JOB)
            tx.exec_driver_sql("SELECT * FROM no_such_table")

    with pytest.raises(StorageFailed):
        fail()
    with database.begin() as tx:
        announce(tx, Topic.DELIVERY)
    assert heard() == {Topic.DELIVERY}


def test_another_process_is_heard(database_url: str, heard):
    command = [sys.executable, "-c", ANNOUNCE, database_url, "completion"]
    subprocess.run(command, check=True, timeout=60, cwd=Path(__file__).parents[2])
    assert heard() == {Topic.COMPLETION}


def test_a_job_that_can_be_claimed_rings_and_one_that_is_taken_away_rings_its_worker(
    database: Database, heard
):
    completion_id = complete_series(database)
    assert heard() >= {Topic.SERIES} or heard() >= {Topic.COMPLETION}
    while heard(0.2):
        pass
    with database.begin() as tx:
        job_id = new_job(tx, completion_id, priority=Priority.STAT)
    assert heard() == {Topic.JOB}
    with database.begin() as tx:
        leases.claim(tx, "w", 30)
    with database.begin() as tx:
        jobs.cancel(tx, job_id, "not needed")
    assert heard() == {Topic.LEASE}


def test_a_bell_rings_for_its_topics_and_all_of_them_at_a_stop(database: Database):
    stop = threading.Event()
    waking = Waking(database, stop)
    of_jobs, of_none = waking.bell(Topic.JOB), waking.bell()
    with waking:
        assert of_jobs.wait(10), "who begins to listen looks once"
        with database.begin() as tx:
            announce(tx, Topic.DELIVERY)
            announce(tx, Topic.JOB)
        assert of_jobs.wait(10)
        assert not of_none.wait(0)
        stop.set()
        assert of_none.wait(10)


def test_a_database_that_cannot_be_listened_to_costs_nobody_more_than_the_signals(tmp_path: Path):
    database = Database(f"postgresql+psycopg://nobody@/nothing?host={tmp_path}")
    with pytest.raises(OSError, match="cannot be listened to"):
        database.listen()
    stop = threading.Event()
    waking = Waking(database, stop)
    bell = waking.bell(Topic.JOB)
    with waking:
        assert not bell.wait(0.1)
        stop.set()
        assert bell.wait(10)


def test_who_finds_nothing_rests_longer_each_time_up_to_a_limit_and_begins_anew_after_work():
    pace = Pace(longest_s=0.3, shortest_s=0.1)
    assert [pace.rest_s(busy=False) for _ in range(4)] == [0.1, 0.2, 0.3, 0.3]
    assert pace.rest_s(busy=True) == 0.0
    assert pace.rest_s(busy=False) == 0.1
