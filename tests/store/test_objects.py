"""Objects are named by their content and are whole or not there: on this machine's disk, and on S3."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomnode.errors import DiskFailed, NotFound, StorageFull
from dicomnode.model.instance import StoredObject
from dicomnode.store import objects as objects_module
from dicomnode.store import s3_objects
from dicomnode.store.bucket import Bucket
from dicomnode.store.object_store import Objects
from dicomnode.store.objects import ObjectStore
from dicomnode.store.s3_objects import S3Objects

COPIES = 10_000_000
Opened = Callable[[int], Objects]


@pytest.fixture(params=["local", "s3"])
def opened(request, tmp_path) -> Opened:
    """A store in `tmp_path`, by the bytes that must stay free."""
    if request.param == "local":
        return lambda minimum_free: ObjectStore(tmp_path, minimum_free)
    bucket = Bucket(request.getfixturevalue("s3_bucket"))
    return lambda minimum_free: S3Objects(tmp_path, bucket, COPIES, minimum_free)


@pytest.fixture
def objects(opened: Opened) -> Objects:
    return opened(0)


@pytest.fixture
def local(tmp_path) -> ObjectStore:
    return ObjectStore(tmp_path, minimum_free=0)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(max_size=200), max_size=4))
def test_what_was_put_comes_back_under_its_digest(objects: Objects, chunks):
    stored = objects.put(*chunks)
    data = b"".join(chunks)
    assert stored == StoredObject(hashlib.sha256(data).hexdigest(), len(data))
    assert objects.read(stored.sha256) == data == objects.path(stored.sha256).read_bytes()
    assert Path(objects.located(stored.sha256)).read_bytes() == data
    assert objects.holds(stored)
    assert objects.intact(stored.sha256)
    with objects.held([stored.sha256, stored.sha256]):
        assert objects.path(stored.sha256).is_relative_to(objects.folder)


def test_the_same_content_twice_is_one_object(objects: Objects, tmp_path):
    assert objects.put(b"same") == objects.put(b"sa", b"me")
    assert len(files(tmp_path)) == 1


def test_what_is_removed_is_gone(objects: Objects):
    kept, removed = objects.put(b"kept"), objects.put(b"removed")
    for _ in range(2):
        objects.remove(removed.sha256)
    assert [objects.has(each.sha256) for each in (kept, removed)] == [True, False]
    assert not objects.holds(StoredObject(removed.sha256, removed.size))
    assert not objects.intact(removed.sha256)
    with pytest.raises(NotFound):
        objects.read(removed.sha256)
    with pytest.raises(FileNotFoundError):
        objects.path(removed.sha256).read_bytes()
    with pytest.raises(OSError, match=r".*"):
        Path(objects.located(removed.sha256)).read_bytes()


def test_a_full_disk_refuses_before_anything_is_written(opened: Opened, tmp_path):
    with pytest.raises(StorageFull):
        opened(2**62).put(b"x")
    assert files(tmp_path) == []


def test_a_sync_that_fails_is_never_taken_for_success(local: ObjectStore, tmp_path, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(DiskFailed):
        local.put(b"x")
    assert files(tmp_path) == []


def test_what_is_written_little_by_little_is_kept_together_and_what_is_discarded_leaves_nothing(
    objects: Objects, tmp_path
):
    spools = [objects.spool() for _ in range(12)]
    for number, spool in enumerate(spools):
        spool.write(b"object ")
        spool.write(memoryview(str(number).encode()))
        objects.seal(spool, ahead=True)
    spools.pop().discard()
    stored = objects.keep(spools)
    assert [objects.read(each.sha256) for each in stored] == [b"object %d" % number for number in range(11)]
    spools[0].discard()
    assert objects.holds(stored[0])
    assert len(files(tmp_path)) == 11


def test_an_object_that_is_there_is_never_replaced_by_one_that_is_not_durable(
    local: ObjectStore, monkeypatch
):
    kept = local.put(b"x")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    before = local.path(kept.sha256).stat().st_ino
    with pytest.raises(DiskFailed):
        local.put(b"x")
    assert local.path(kept.sha256).stat().st_ino == before


@pytest.mark.parametrize("name", ["../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", ""])
def test_only_a_digest_names_an_object(objects: Objects, name: str):
    for ask in (objects.path, objects.located, objects.read, objects.has, objects.remove):
        with pytest.raises(NotFound):
            ask(name)


def test_what_a_dead_writer_left_is_removed_and_what_a_living_one_writes_is_not(objects: Objects):
    left, living = objects.spool(), objects.spool()
    os.utime(left.path, (0, 0))
    assert objects.remove_stale_temporaries() == 1
    assert [spool.path.exists() for spool in (left, living)] == [False, True]
    for spool in (left, living):
        spool.discard()


def test_what_is_younger_than_an_hour_is_no_orphan_yet_and_an_hour_later_it_is_listed(
    objects: Objects, monkeypatch
):
    stored = {objects.put(b"one").sha256, objects.put(b"two").sha256}
    assert list(objects.changed_since(86_400)) == []
    assert not any(map(objects.is_old, stored))
    for module in (objects_module, s3_objects):
        monkeypatch.setattr(module, "YOUNG_S", -5.0)
    assert set(objects.changed_since(86_400)) == stored
    assert all(map(objects.is_old, stored))
    assert not objects.is_old("0" * 64)
