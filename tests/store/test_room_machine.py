"""Memory against a plain model: never is more held than there is, and nothing that fits waits for ever."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import delete, select

from dicomnode.model.job import Lease, Priority
from dicomnode.model.room import Room, Slot
from dicomnode.store import bundles, leases, room, workers
from dicomnode.store.schema import metadata, worker
from tests.harness.machines import hold_against
from tests.harness.schema import upgraded
from tests.store.builders import complete_series, new_job

HOST_MB = 24_000
DEVICES = {"gpu:0": 12_000, "gpu:1": 6000}
SLOTS = [
    Slot(name, "ward", device, Room(HOST_MB, DEVICES[device]), tuple(DEVICES))
    for name, device in (("a", "gpu:0"), ("b", "gpu:0"), ("c", "gpu:0"), ("d", "gpu:1"), ("e", "gpu:1"))
]
BUNDLES = {
    "tiny": (1000, 500),
    "small": (4000, 3000),
    "host": (16_000, 1000),
    "half": (6000, 6000),
    "large": (8000, 11_000),
    "all": (24_000, 12_000),
}


class Memory(RuleBasedStateMachine):
    """Five slots on two devices of one machine, and jobs of six bundles."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = upgraded(self.url or f"sqlite:///{self.folder.name}/d.sqlite3")
        self.completion_id = complete_series(self.database)
        with self.database.begin() as tx:
            for slot in SLOTS:
                workers.begin(tx, slot.worker, slot)
            for digest, needs in BUNDLES.items():
                bundles.declare(tx, digest, *needs)
        self.added = 0
        self.waiting: set[int] = set()
        self.running: dict[str, Lease] = {}
        self.warm: dict[str, str] = {}

    def teardown(self) -> None:
        with self.database.begin() as tx:
            for table in reversed(metadata.sorted_tables):
                if table.name not in ("identity", "clock"):
                    tx.execute(delete(table))
        self.database.close()
        self.folder.cleanup()

    @rule(digest=st.sampled_from(sorted(BUNDLES)), priority=st.sampled_from(Priority))
    def add(self, digest: str, priority: Priority) -> None:
        self.added += 1
        with self.database.begin() as tx:
            job_id = new_job(
                tx,
                self.completion_id,
                str(self.added),
                pipeline=digest,
                pipeline_digest=digest,
                priority=priority,
            )
        self.waiting.add(job_id)

    @rule(slot=st.sampled_from(SLOTS))
    def tick(self, slot: Slot) -> None:
        """What a worker without a job does."""
        name = slot.worker
        if name in self.running:
            return
        with self.database.read() as tx:
            first, leaves = leases.next_up(tx, name), room.is_to_leave(tx, name)
        if leaves:
            self.cool(slot)
        if first is None:
            return
        got, warm = None, self.warm.get(name)
        if warm == first.digest:
            with self.database.at_once() as tx:
                got = leases.claim_at_home(tx, name, 3600.0)
        if got is None:
            with self.database.begin() as tx:
                got = leases.claim(tx, name, 3600.0, (), slot, first, warm)
        if got is not None:
            self.waiting.remove(got.id)
            self.running[name], self.warm[name] = got.lease, got.pipeline_digest

    @rule(slot=st.sampled_from(SLOTS))
    def cool(self, slot: Slot) -> None:
        """A model ends by itself, or because it was asked to."""
        if slot.worker not in self.running:
            self.warm.pop(slot.worker, None)
            with self.database.begin() as tx:
                room.give_back(tx, slot.worker)

    @rule(slot=st.sampled_from(SLOTS))
    def end(self, slot: Slot) -> None:
        lease = self.running.pop(slot.worker, None)
        if lease is not None:
            with self.database.begin() as tx:
                leases.finish(tx, lease, [])

    @rule()
    def time_goes_by(self) -> None:
        """Runs end, every worker looks, and no more comes: each waiting job has its turn."""
        for _ in range(4 * len(self.waiting) + 8):
            for slot in SLOTS:
                self.end(slot)
                self.tick(slot)
                self.memory_holds()
        assert not self.waiting, "something that fits waits for ever"

    @invariant()
    def memory_holds(self) -> None:
        with self.database.read() as tx:
            held = tx.execute(select(worker)).all()
        assert sum(row.held_host_mb for row in held) <= HOST_MB
        for device, megabytes in DEVICES.items():
            assert sum(row.held_device_mb for row in held if row.device == device) <= megabytes
        for row in held:
            needs = BUNDLES[self.warm[row.name]] if row.name in self.warm else (0, 0)
            assert (row.held_host_mb, row.held_device_mb) == needs, "what is warm or runs is held"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_never_is_more_memory_held_than_there_is_and_nothing_that_fits_waits_for_ever(kind, request):
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
    hold_against(Memory, examples=6, steps=20, url=url)
