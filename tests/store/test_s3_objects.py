"""S3 has the objects; what this machine has are copies, which may be lost, changed or away at any time."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import obstore
import pytest

from dicomnode.errors import NotFound, ObjectsAway
from dicomnode.store import local_copies, s3_objects
from dicomnode.store.bucket import PART, Bucket, BucketSettings
from dicomnode.store.s3_objects import S3Objects
from tests.harness.swift import SwiftServer

COPIES = 10_000_000


def machine(folder: Path, bucket: BucketSettings, copies: int = COPIES) -> S3Objects:
    """The store as a machine with that data folder has it."""
    return S3Objects(folder, Bucket(bucket), copies, 0)


@pytest.fixture
def objects(tmp_path, s3_bucket: BucketSettings) -> S3Objects:
    return machine(tmp_path / "here", s3_bucket)


@pytest.fixture
def elsewhere(tmp_path, s3_bucket: BucketSettings) -> S3Objects:
    return machine(tmp_path / "elsewhere", s3_bucket)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_one_machine_keeps_every_other_one_has(objects: S3Objects, elsewhere: S3Objects):
    stored = objects.put(b"kept here")
    assert elsewhere.holds(stored)
    assert elsewhere.put(b"kept here") == stored
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(elsewhere.read, [stored.sha256] * 8)) == {b"kept here"}
    elsewhere.remove(stored.sha256)
    assert not objects.has(stored.sha256)


def test_a_large_object_goes_and_comes_in_parts(objects: S3Objects, elsewhere: S3Objects):
    block = os.urandom(1 << 20)
    for _ in range(2):
        spool = objects.spool()
        for number in range(2 * PART // len(block)):
            spool.write(number.to_bytes(4) + block)
        (stored,) = objects.keep([spool])
        assert objects.holds(stored)
    with elsewhere.path(stored.sha256).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == stored.sha256


def test_bytes_that_are_not_what_their_name_says_are_never_given(
    objects: S3Objects, elsewhere: S3Objects, swift_server: SwiftServer, s3_bucket: BucketSettings
):
    stored, changed = objects.put(b"as it was"), objects.put(b"right").sha256
    key = f"{changed[:2]}/{changed}"
    obstore.put(swift_server.store(s3_bucket.name), key, b"wrong", use_multipart=False)
    assert not elsewhere.intact(changed)
    with pytest.raises(NotFound):
        elsewhere.read(changed)
    with pytest.raises(FileNotFoundError), elsewhere.held([changed]):
        pass
    objects.path(stored.sha256).write_bytes(b"other than it was")
    assert objects.intact(stored.sha256)
    assert objects.read(stored.sha256) == b"as it was"


def test_the_least_recently_used_copies_go_and_none_that_somebody_reads(
    tmp_path, s3_bucket: BucketSettings, monkeypatch
):
    objects = machine(tmp_path, s3_bucket, copies=5_000)
    first, second, third = (objects.put(bytes([number]) * 2_000).sha256 for number in range(3))
    copies = [objects.folder / each[:2] / each for each in (first, second, third)]
    assert [copy.exists() for copy in copies] == [True, True, True]
    for age, copy in zip((300, 200, 100), copies, strict=True):
        os.utime(copy, (0, time.time() - local_copies.IN_HAND_S - age))
    with objects.held([first]):
        os.utime(copies[0], (0, 0))
        objects.put(b"one more" * 50)
        assert [copy.exists() for copy in copies] == [True, False, True]
    monkeypatch.setattr(local_copies, "IN_HAND_S", -1.0)
    os.utime(copies[0], (0, 0))
    objects.put(b"and another" * 90)
    assert [copy.exists() for copy in copies] == [False, False, True]
    assert objects.read(first) == bytes([0]) * 2_000


def test_a_reader_that_died_holds_nothing_and_a_machine_that_was_started_again_trusts_nothing(
    objects: S3Objects, tmp_path
):
    stored, root = objects.put(b"kept"), tmp_path / "here" / "copies"
    (root / "held" / "of the dead").mkdir()
    (root / "an earlier start" / "ab").mkdir(parents=True)
    (root / "an earlier start" / "ab" / "half").write_bytes(b"")
    with objects.held([stored.sha256]):
        objects.remove_stale_temporaries()
        assert len(files(root / "held")) == 1
    assert files(root) == [objects.path(stored.sha256)]
    assert list((root / "held").iterdir()) == []


def test_an_old_object_that_comes_again_is_young_again_before_anybody_sweeps(
    objects: S3Objects,
    elsewhere: S3Objects,
    swift_server: SwiftServer,
    s3_bucket: BucketSettings,
    monkeypatch,
):
    """Between the put and the row, another machine must not take it for an orphan's."""
    key = (sha256 := objects.put(b"x").sha256)[:2] + "/" + sha256
    seen = obstore.head(swift_server.store(s3_bucket.name), key)["last_modified"]
    monkeypatch.setattr(s3_objects, "YOUNG_S", 0.0)

    def is_younger() -> bool:
        elsewhere.put(b"x")
        return obstore.head(swift_server.store(s3_bucket.name), key)["last_modified"] > seen

    assert any(is_younger() for _ in range(60))


@contextmanager
def away(server: SwiftServer, way: str) -> Iterator[None]:
    """Nobody takes connections, or nobody answers, while the block runs."""
    if way == "is silent":
        with server.silent():
            yield
        return
    server.refuse()
    try:
        yield
    finally:
        server.start("proxy")


@pytest.mark.parametrize("way", ["refuses", "is silent"])
def test_a_store_that_is_away_is_told_in_time_and_leaves_nothing_here(
    way: str, tmp_path, swift_server: SwiftServer, s3_bucket: BucketSettings
):
    settings = swift_server.settings(s3_bucket.name, timeout_s=1.0)
    objects = machine(tmp_path, settings)
    kept = objects.put(b"kept")
    not_here = objects.put(b"not here any more")
    (objects.folder / not_here.sha256[:2] / not_here.sha256).unlink()
    with away(swift_server, way):
        for ask in (
            lambda: objects.put(b"new"),
            objects.check,
            lambda: objects.has(not_here.sha256),
            lambda: objects.intact(not_here.sha256),
            lambda: objects.remove(kept.sha256),
        ):
            began = time.monotonic()
            with pytest.raises(ObjectsAway) as told:
                ask()
            assert time.monotonic() - began < 10 * settings.timeout_s
            assert settings.secret not in str(told.value)
            assert settings.endpoint not in str(told.value)
        with pytest.raises(OSError, match="object store"):
            Path(objects.located(not_here.sha256)).read_bytes()
        assert objects.read(kept.sha256) == b"kept"
        assert [path.name for path in files(tmp_path)] == [kept.sha256]
    objects.check()
    assert objects.put(b"new").size == 3
    assert objects.read(not_here.sha256) == b"not here any more"


def test_a_wrong_key_and_a_bucket_that_is_none_are_told_from_each_other(
    tmp_path, swift_server: SwiftServer, s3_bucket: BucketSettings
):
    settings = replace(s3_bucket, secret="wrong")  # noqa: S106  it is none
    assert "wrong" not in repr(settings)
    with pytest.raises(ObjectsAway, match="403"):
        machine(tmp_path / "a", settings).check()
    with pytest.raises(ObjectsAway, match="404"):
        machine(tmp_path / "b", swift_server.settings("no-such-bucket")).check()
