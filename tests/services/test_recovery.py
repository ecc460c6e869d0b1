"""A start removes what nobody was told of, and nothing else."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dicomnode.services.recovery import recover
from dicomnode.services.scratch import remove_scratch_of_the_dead, scratch_folder
from dicomnode.store import catalog
from dicomnode.store.database import Database
from dicomnode.store.objects import YOUNG_S, ObjectStore
from tests.harness.schema import upgraded
from tests.store.builders import arrival


@pytest.fixture
def stores(tmp_path) -> tuple[Database, ObjectStore]:
    database = upgraded(f"sqlite:///{tmp_path / 'd.sqlite3'}")
    return database, ObjectStore(tmp_path, 0)


def put(objects: ObjectStore, data: bytes, *, old: bool):
    stored = objects.put(data)
    if old:
        path = objects.path(stored.sha256)
        before = path.stat().st_mtime - 2 * YOUNG_S
        os.utime(path, (before, before))
    return stored


def test_an_old_object_without_a_row_is_removed_and_a_young_or_named_one_stays(stores):
    database, objects = stores
    orphan, young = put(objects, b"orphan", old=True), put(objects, b"young", old=False)
    named = put(objects, b"named", old=True)
    with database.begin() as tx:
        catalog.add_instance(tx, replace(arrival(1), stored=named))
    recover(database, objects)
    assert [objects.holds(stored) for stored in (orphan, young, named)] == [False, True, True]


def test_a_lost_object_is_told_and_does_not_stop_the_start(stores):
    database, objects = stores
    with database.begin() as tx:
        catalog.add_instance(tx, arrival(1))
    recover(database, objects)
    with database.read() as tx:
        assert tx.exec_driver_sql("SELECT event FROM audit").scalar_one() == "object_lost"


def test_what_a_killed_worker_worked_in_is_removed_and_a_living_ones_stays(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, living = tmp_path / "scratch" / f"worker-1-{ended.pid}", scratch_folder(tmp_path, "worker-1")
    for folder in (left, living):
        folder.mkdir(parents=True)
        (folder / "labels.npy").touch()
    remove_scratch_of_the_dead(tmp_path)
    assert [left.exists(), living.exists()] == [False, True]


def test_nobody_enters_an_instance_while_an_orphan_is_looked_at_for_the_last_time(database_url, tmp_path):
    """Else a put of the same bytes could be acknowledged between the look and the removal."""
    database, objects = upgraded(database_url), ObjectStore(tmp_path, 0)
    stored = objects.put(b"the same again")

    def enter() -> bool:
        with database.begin() as tx:
            catalog.add_instance(tx, replace(arrival(1), stored=stored))
            return objects.holds(stored)

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as tx:
            catalog.stop_entries(tx)
            entered = pool.submit(enter)
            assert not catalog.named_objects(tx, [stored.sha256])
            with pytest.raises(TimeoutError):
                entered.result(0.3)
            objects.remove(stored.sha256)
        assert entered.result(30) is False
    database.close()
