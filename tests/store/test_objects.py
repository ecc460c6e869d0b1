"""Objects are named by their content and are whole or not there."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.errors import DiskFailed, NotFound, StorageFull
from dicomnode.model.instance import StoredObject
from dicomnode.store.objects import ObjectStore


@pytest.fixture
def objects(tmp_path) -> ObjectStore:
    return ObjectStore(tmp_path, minimum_free=0)


@settings(deadline=None)
@given(chunks=st.lists(st.binary(max_size=200), max_size=4))
def test_what_was_put_comes_back_under_its_digest(tmp_path_factory, chunks):
    objects = ObjectStore(tmp_path_factory.mktemp("objects"), 0)
    stored = objects.put(*chunks)
    data = b"".join(chunks)
    assert stored == StoredObject(hashlib.sha256(data).hexdigest(), len(data))
    assert objects.read(stored.sha256) == data
    assert objects.holds(stored)


def test_the_same_content_twice_is_one_object(objects: ObjectStore, tmp_path):
    assert objects.put(b"same") == objects.put(b"sa", b"me")
    assert len([path for path in (tmp_path / "objects").rglob("*") if path.is_file()]) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_full_disk_refuses_before_anything_is_written(tmp_path):
    with pytest.raises(StorageFull):
        ObjectStore(tmp_path, minimum_free=2**62).put(b"x")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_sync_that_fails_is_never_taken_for_success(objects: ObjectStore, tmp_path, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(DiskFailed):
        objects.put(b"x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_written_little_by_little_is_kept_together_and_what_is_discarded_leaves_nothing(
    objects: ObjectStore, tmp_path
):
    spools = [objects.spool() for _ in range(40)]
    for number, spool in enumerate(spools):
        spool.write(b"object ")
        spool.write(memoryview(str(number).encode()))
        objects.seal(spool)
    spools.pop().discard()
    stored = objects.keep(spools)
    assert [objects.read(each.sha256) for each in stored] == [b"object %d" % number for number in range(39)]
    spools[0].discard()
    assert objects.holds(stored[0])
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 39


def test_an_object_that_is_there_is_never_replaced_by_one_that_is_not_durable(
    objects: ObjectStore, monkeypatch
):
    kept = objects.put(b"x")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    before = objects.path(kept.sha256).stat().st_ino
    with pytest.raises(DiskFailed):
        objects.put(b"x")
    assert objects.path(kept.sha256).stat().st_ino == before


@pytest.mark.parametrize("name", ["../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", ""])
def test_only_a_digest_names_an_object(objects: ObjectStore, name: str):
    with pytest.raises(NotFound):
        objects.path(name)


def test_what_a_dead_writer_left_is_removed_and_what_a_living_one_writes_is_not(
    objects: ObjectStore, tmp_path
):
    old, young = tmp_path / "tmp" / "old", tmp_path / "tmp" / "young"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    assert objects.remove_stale_temporaries() == 1
    assert young.exists()
