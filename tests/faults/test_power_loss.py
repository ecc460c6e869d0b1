"""The power goes at any moment: what was acknowledged is there, and what was not does no harm."""

from __future__ import annotations

import hashlib
import os
import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from multiprocessing import get_context
from pathlib import Path

import pytest
from sqlalchemy import inspect, select

from dicomnode.config import load_config
from dicomnode.dimse.receiver import AcceptRule, Receiver, ReceiverSettings
from dicomnode.dimse.service import Intake
from dicomnode.dimse.storage import streamed_storage
from dicomnode.errors import DicomnodeError, DuplicateDiffers
from dicomnode.installation import Stores, open_stores
from dicomnode.model.instance import Received
from dicomnode.services.ingest import Incoming, Ingest
from dicomnode.services.recovery import recover
from dicomnode.store.part10 import file_head
from dicomnode.store.schema import audit, instance, metadata
from dicomnode.supervisor import EXIT_DISK
from tests.faults.forgetful import Entry, FailedSync, Mark, Operation, Sync, after_power_loss
from tests.faults.memory import memory_folder
from tests.faults.recording import fail_next_sync, mark, recorded
from tests.faults.strace_child import take_in
from tests.harness.heads import small_series, write_series
from tests.peers import run
from tests.services.test_ingest import received

pytestmark = pytest.mark.timeout(900)

CUTS = int(os.environ.get("FAULT_CUTS", "200"))
FIRST_SEED = int(os.environ.get("FAULT_SEED", "0"))
THREADS = 4
RESENT = 5
DATA = Path("site") / "node"
"""Neither folder is there at the first start."""


@dataclass(frozen=True)
class Recording:
    """What was done to the disk, and every instance that was sent."""

    log: Sequence[Operation] = field(repr=False)
    instances: Mapping[str, Received] = field(repr=False)

    def acknowledged(self, cut: int) -> set[str]:
        return {each.text for each in self.log[:cut] if isinstance(each, Mark)}


@contextmanager
def started(folder: Path) -> Iterator[Stores]:
    """The stores as a start of the node opens them, and looks at them."""
    config = folder / "config.toml"
    config.write_text(f'[node]\ndata = "{folder / "disk" / DATA}"\nminimum_free_mb = 1\n')
    stores = open_stores(load_config(config, {}))
    try:
        with stores.database.read() as tx:
            tables = set(inspect(tx).get_table_names())
        if not tables:
            stores.database.upgrade()
        else:
            assert tables >= set(metadata.tables), "half a schema"
        recover(stores.database, stores.objects)
        yield stores
    finally:
        stores.database.close()


@contextmanager
def recorded_disk(folder: Path) -> Iterator[tuple[Path, list[Operation]]]:
    with recorded(folder) as (mountpoint, log):
        (folder / "disk").symlink_to(mountpoint)
        yield mountpoint, log


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Two lives of a node that takes in two series by several threads at once, one by one and in batches."""
    folder = tmp_path_factory.mktemp("ingested")
    came = [received(ds) for _ in range(2) for ds in small_series(30)]
    with recorded_disk(folder) as (mountpoint, log):
        for part in (came[:30], came[30:]):
            with started(folder) as stores:
                _take_in(Ingest(stores.database, stores.objects), part, mountpoint)
    return Recording(log, {each.SOPInstanceUID: each for each in came})


def _take_in(ingest: Ingest, came: Sequence[Received], mountpoint: Path) -> None:
    def one_by_one(mine: Sequence[Received]) -> None:
        for number, each in enumerate(mine):
            ingest.store(each)
            mark(mountpoint, each.SOPInstanceUID)
            if number % 3 == 0:
                ingest.store(each)
                with pytest.raises(DuplicateDiffers):
                    ingest.store(replace(each, data=each.data[:-2] + b"??"))

    def together(mine: Sequence[Received]) -> None:
        batch = []
        for each in mine:
            batch.append(ingest.begin(each))
            batch[-1].write(each.data)
            batch[-1].end(ahead=True)
        ingest.keep(batch)
        for each in mine:
            mark(mountpoint, each.SOPInstanceUID)

    with ThreadPoolExecutor(THREADS + 1) as pool:
        works = [pool.submit(one_by_one, came[5 + first :: THREADS]) for first in range(THREADS)]
        works.append(pool.submit(together, came[:5]))
        for work in works:
            work.result()


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """What storescu sends over two associations to a receiver."""
    folder = tmp_path_factory.mktemp("sent")
    series = [small_series(12) for _ in range(2)]
    folders = [folder / "first", folder / "second"]
    for each, where in zip(series, folders, strict=True):
        write_series(where, each)
    with recorded_disk(folder) as (mountpoint, log), started(folder) as stores:
        ingest = Ingest(stores.database, stores.objects)

        def keep(incoming: Incoming) -> None:
            ingest.store(incoming)
            mark(mountpoint, incoming.arrival.SOPInstanceUID)

        receiver = Receiver(
            ReceiverSettings("NODE", "127.0.0.1", 0, (AcceptRule("*", ip_network("127.0.0.0/8")),)),
            [streamed_storage(Intake(ingest.begin, Incoming.write, keep))],
        )
        receiver.start()
        try:
            with ThreadPoolExecutor(2) as pool:
                where = ["-aec", "NODE", "127.0.0.1", receiver.port, "+sd"]
                list(pool.map(lambda each: run("storescu", *where, each), folders))
        finally:
            receiver.stop(10)
    instances = {ds.SOPInstanceUID: received(ds) for each in series for ds in each}
    return Recording(log, instances)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A life that ends because SQLite's log could not be synced, and the next one."""
    folder = tmp_path_factory.mktemp("failed")
    came = [received(ds) for ds in small_series(12)]
    with recorded_disk(folder) as (mountpoint, log):
        with started(folder):
            pass
        ours, its = lines = socket.socketpair()
        arguments = (folder / "config.toml", came[:4], came[4:5], came[5:6], its)
        child = get_context("forkserver").Process(target=take_in, args=arguments)
        child.start()
        assert ours.recv(6) == b"ready\n"
        for each in came[:4]:
            mark(mountpoint, each.SOPInstanceUID)
        fail_next_sync(mountpoint / DATA / "dicomnode.sqlite3-wal")
        ours.sendall(b"!")
        child.join(60)
        assert child.exitcode == EXIT_DISK
        for line in lines:
            line.close()
        with started(folder) as stores:
            ingest = Ingest(stores.database, stores.objects)
            for each in came[4:]:
                ingest.store(each)
                mark(mountpoint, each.SOPInstanceUID)
    return Recording(log, {each.SOPInstanceUID: each for each in came})


def test_nothing_acknowledged_is_lost_and_nothing_else_does_harm(ingested: Recording) -> None:
    assert ingested.acknowledged(len(ingested.log)) == set(ingested.instances)
    assert failures(ingested, CUTS) == {}


def test_what_storescu_was_told_is_true_after_the_power_went(sent: Recording) -> None:
    assert sent.acknowledged(len(sent.log)) == set(sent.instances)
    assert failures(sent, max(1, CUTS // 5)) == {}


def test_what_is_acknowledged_after_a_sync_failed_and_the_node_was_started_again_is_not_lost(
    failed: Recording,
) -> None:
    """What the kernel shows of a log that it could not sync is not on the disk."""
    again = next(place for place, each in enumerate(failed.log) if isinstance(each, FailedSync))
    assert failures(failed, max(1, CUTS // 5), first=again) == {}


@pytest.mark.parametrize("name", ["objects", "tmp", "node", "dicomnode.sqlite3-wal"])
def test_a_node_that_had_not_synced_would_be_caught(ingested: Recording, name: str) -> None:
    """Without the syncs of the objects' folders, of their bytes, of the data folder, or of SQLite's log."""
    forgotten = inodes_of(ingested.log, name)
    careless = [each for each in ingested.log if not (isinstance(each, Sync) and each.inode in forgotten)]
    assert len(careless) < len(ingested.log)
    assert failures(replace(ingested, log=careless), CUTS, enough=1) != {}


def inodes_of(log: Sequence[Operation], name: str) -> set[int]:
    """What ever had that name, and whatever was in it."""
    found = {each.target for each in log if isinstance(each, Entry) and each.name == name}
    if name == "node":
        return found
    return found | {each.target for each in log if isinstance(each, Entry) and each.inode in found}


def failures(recording: Recording, cuts: int, *, first: int = 0, enough: int = 5) -> dict[int, str]:
    """What is wrong after the power went, by the seed of the cut; the first few."""
    found: dict[int, str] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + cuts):
        try:
            rng = random.Random(seed)
            check(recording, some_place(recording.log, first, rng), rng)
        except (AssertionError, DicomnodeError) as error:
            found[seed] = str(error).splitlines()[0]
            if len(found) == enough:
                break
    return found


def some_place(log: Sequence[Operation], first: int, rng: random.Random) -> int:
    """Where to cut, not before `first`; seldom before anything was acknowledged: a first start does much."""
    marked = next(place for place, each in enumerate(log) if isinstance(each, Mark))
    if first < marked and rng.random() < 0.1:
        return rng.randint(first + 1, marked)
    return rng.randint(max(first, marked) + 1, len(log))


def check(recording: Recording, cut: int, rng: random.Random) -> None:
    """The power goes there: look at what is there, start again and send the rest."""
    acknowledged = recording.acknowledged(cut)
    with memory_folder() as folder:
        after_power_loss(recording.log, cut, rng).write_out(folder / "disk", age_s=7200)
        with started(folder) as stores:
            _look(folder / "disk" / DATA, stores, recording, acknowledged)
            _resend(stores, recording, acknowledged, rng)


def _look(data: Path, stores: Stores, recording: Recording, acknowledged: set[str]) -> None:
    rows = rows_of(stores)
    assert acknowledged <= set(rows), "an acknowledged instance is not in the catalog"
    for SOPInstanceUID, digest in rows.items():
        assert digest == digest_of(recording.instances[SOPInstanceUID]), "a row names other bytes"
        assert stores.objects.intact(digest), "the bytes of a row are not there"
    left = {path.name for path in stores.objects.folder.glob("*/*")}
    assert left == set(rows.values()), "what nobody names was not swept"
    assert not list((data / "tmp").iterdir()), "a temporary file was not swept"
    with stores.database.read() as tx:
        told = set(tx.execute(select(audit.c.event)).scalars())
        sound = tx.exec_driver_sql("PRAGMA integrity_check").scalar_one()
        assert sound == "ok", sound
        assert not tx.exec_driver_sql("PRAGMA foreign_key_check").all()
    assert told <= {"duplicate_differs"}, told


def _resend(stores: Stores, recording: Recording, acknowledged: set[str], rng: random.Random) -> None:
    ingest = Ingest(stores.database, stores.objects)
    unsent = [uid for uid in recording.instances if uid not in acknowledged][:RESENT]
    again = [*unsent, *rng.sample(sorted(acknowledged), min(1, len(acknowledged)))]
    for SOPInstanceUID in again:
        ingest.store(recording.instances[SOPInstanceUID])
    rows = rows_of(stores)
    assert all(stores.objects.intact(rows[uid]) for uid in again), "a resend is not kept"


def rows_of(stores: Stores) -> dict[str, str]:
    with stores.database.read() as tx:
        found = tx.execute(select(instance.c.SOPInstanceUID, instance.c.sha256)).all()
        return {row.SOPInstanceUID: row.sha256 for row in found}


def digest_of(came: Received) -> str:
    head = file_head(came.SOPClassUID, came.SOPInstanceUID, came.TransferSyntaxUID)
    return hashlib.sha256(head + came.data).hexdigest()
