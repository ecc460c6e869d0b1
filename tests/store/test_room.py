"""A slot gets a job when there is room for it; a warm model that nobody uses leaves for one that has none."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, update

from dicomnode.errors import RunOutOfMemory
from dicomnode.model.job import TOO_LARGE, JobState, Priority
from dicomnode.model.queue import PauseKind
from dicomnode.model.room import UNLIMITED_MB, Peak, Room, Slot
from dicomnode.model.version import Version
from dicomnode.store import admission, bundles, jobs, leases, pauses, room, runs, versions, workers
from dicomnode.store.clock import Now
from dicomnode.store.database import Database, Transaction
from dicomnode.store.schema import job, job_event, worker
from tests.harness.schema import upgraded

from .builders import complete_series, new_job

GPU = Room(64_000, 16_000)


def slot(name: str, device: str = "cuda:0", size: Room = GPU, host: str = "ward") -> Slot:
    """A slot on a machine of two GPUs."""
    return Slot(name, host, device, size, ("cuda:0", "cuda:1", "cpu"))


class Ward:
    """A database with slots and bundles, and what a worker does with them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.completion_id = complete_series(database)
        self.jobs: dict[str, int] = {}

    def open(self, *slots: Slot) -> None:
        with self.database.begin() as tx:
            for each in slots:
                workers.begin(tx, each.worker, each)

    def add(self, key: str, digest: str, host_mb: int = 1000, device_mb: int = 0, **changes: object) -> int:
        with self.database.begin() as tx:
            bundles.declare(tx, digest, host_mb, device_mb)
            changes = {"pipeline": digest, **changes}
            self.jobs[key] = new_job(tx, self.completion_id, key, pipeline_digest=digest, **changes)
        return self.jobs[key]

    def claim(self, at: Slot, warm: str | None = None) -> str | None:
        with self.database.begin() as tx:
            first = leases.next_up(tx, at.worker)
            got = leases.claim(tx, at.worker, 60.0, (), at, first, warm)
        return None if got is None else next(key for key, id_ in self.jobs.items() if id_ == got.id)

    def finish(self, key: str) -> None:
        with self.database.begin() as tx:
            leases.finish(tx, jobs.get(tx, self.jobs[key]).lease, [])

    def leaving(self) -> list[str]:
        with self.database.read() as tx:
            return sorted(tx.execute(select(worker.c.name).where(worker.c.leaving)).scalars())

    def leave(self, name: str) -> None:
        with self.database.begin() as tx:
            room.give_back(tx, name)


@pytest.fixture
def ward(database: Database) -> Ward:
    return Ward(database)


def needs(tx: Transaction) -> Room:
    """What the only job is taken to need."""
    return Room(*tx.execute(select(admission.HOST_MB, admission.DEVICE_MB).select_from(job)).one())


A, B, C = slot("a"), slot("b"), slot("c")


def test_models_share_a_device_as_far_as_its_memory_goes(ward):
    ward.open(A, B, C)
    for key, digest, megabytes in (("1", "x", 7000), ("2", "y", 8000), ("3", "z", 2000)):
        ward.add(key, digest, device_mb=megabytes)
    assert [ward.claim(A), ward.claim(B), ward.claim(C)] == ["1", "2", None]
    with ward.database.read() as tx:
        (cpu, gpu) = room.devices(tx)
    assert (cpu.name, cpu.held_mb, cpu.free_mb) == ("cpu", 2000, 62_000)
    assert (gpu.name, gpu.held_mb, gpu.free_mb) == ("cuda:0", 15_000, 1000)
    ward.finish("1")
    assert ward.leaving() == [], "nobody is asked to leave who need not"
    assert ward.claim(A) == "3", "its own warm model makes way at once"


def test_a_slot_goes_on_with_its_own_model_by_a_claim_that_begins_and_ends_by_itself(ward):
    ward.open(A)
    ward.add("1", "x")
    assert ward.claim(A) == "1"
    ward.finish("1")
    second = ward.add("2", "x")
    ward.add("3", "y")
    with ward.database.at_once() as tx:
        claimed = leases.claim_at_home(tx, A.worker, 60.0)
        assert leases.claim_at_home(tx, A.worker, 60.0) is None, "that of another model is not at home"
    with ward.database.read() as tx:
        assert claimed == jobs.get(tx, second)
        events = tx.execute(select(job_event).where(job_event.c.job_id == second)).all()
    assert (claimed.state, claimed.fence, claimed.attempt) == (JobState.LEASED, 1, 1)
    assert [(each.event, each.state, each.fence, each.detail) for each in events] == [
        ("create", "ready", 0, None),
        ("claim", "leased", 1, "a"),
    ]


def test_memory_of_the_machine_is_shared_by_its_devices_and_that_of_a_device_is_not(ward):
    other, elsewhere = slot("b", "cuda:1"), slot("c", host="theatre")
    ward.open(A, other, elsewhere)
    for key in ("1", "2", "3"):
        ward.add(key, f"m{key}", host_mb=40_000, device_mb=16_000)
    assert [ward.claim(A), ward.claim(other), ward.claim(elsewhere)] == ["1", None, "2"]
    ward.finish("1")
    assert ward.claim(other) is None
    assert ward.leaving() == ["a"]


def test_the_warm_model_that_was_used_longest_ago_leaves_and_the_job_gets_its_place(ward):
    ward.open(A, B, C)
    for key, digest, at in (("1", "x", A), ("2", "y", B)):
        ward.add(key, digest, device_mb=6000)
        assert ward.claim(at) == key
    with ward.database.begin() as tx:
        tx.execute(update(worker).where(worker.c.name == "b").values(held_since=Now(-60)))
    ward.finish("1")
    ward.finish("2")
    ward.add("3", "z", device_mb=9000)
    assert ward.claim(C) is None
    assert ward.leaving() == ["b"]
    assert ward.claim(C) is None
    assert ward.leaving() == ["b"], "who was asked already is counted on"
    ward.add("4", "y", device_mb=6000, priority=Priority.STAT)
    assert ward.claim(B, warm="y") is None
    with ward.database.begin() as tx:
        jobs.cancel(tx, ward.jobs["4"], "not needed")
    assert ward.claim(B) is None, "who is to leave claims nothing before"
    ward.leave("b")
    assert ward.claim(C) == "3"


def test_the_warm_model_of_a_version_in_a_shadow_is_the_first_to_leave(ward):
    ward.open(A, B, C)
    for key, digest, at in (("1", "x", A), ("2", "y", B)):
        ward.add(key, digest, device_mb=6000)
        assert ward.claim(at) == key
        ward.finish(key)
    with ward.database.begin() as tx:
        tx.execute(update(worker).where(worker.c.name == "a").values(held_since=Now(-60)))
        versions.begin_shadow(tx, Version("y", "2", "y"), 100, "jane")
    ward.add("3", "z", device_mb=9000)
    assert ward.claim(C) is None
    assert ward.leaving() == ["b"]


def test_a_job_that_runs_is_asked_for_nothing(ward):
    ward.open(A, B)
    ward.add("1", "x", device_mb=9000)
    ward.add("2", "y", device_mb=9000)
    assert ward.claim(A) == "1"
    assert ward.claim(B) is None
    assert ward.leaving() == []


def test_a_large_job_that_waits_for_room_is_not_overtaken_by_small_ones(ward):
    ward.open(A, B, C)
    ward.add("1", "x", device_mb=6000)
    assert ward.claim(A) == "1"
    ward.add("2", "large", device_mb=16_000)
    ward.add("3", "small", device_mb=1000)
    assert [ward.claim(B), ward.claim(C)] == [None, None]
    ward.finish("1")
    assert ward.claim(A) == "2"


def test_what_only_another_device_can_run_holds_up_no_more_than_the_memory_it_will_need(ward):
    small = slot("b", "cuda:1", Room(64_000, 4000))
    ward.open(A, small)
    ward.add("1", "x", device_mb=16_000)
    assert ward.claim(A) == "1"
    ward.add("2", "large", host_mb=60_000, device_mb=16_000)
    ward.add("3", "greedy", host_mb=5000, device_mb=1000)
    assert ward.claim(small) is None, "it would take the memory that the large one waits for"
    ward.add("4", "modest", host_mb=3000, device_mb=1000)
    ward.finish("1")
    assert ward.claim(A) == "2"
    ward.finish("2")
    ward.leave("a")
    assert ward.claim(small) == "3"


def test_a_slot_takes_jobs_of_its_warm_model_first_as_long_as_they_are_as_urgent(ward):
    ward.open(A)
    ward.add("1", "x")
    assert ward.claim(A) == "1"
    ward.finish("1")
    ward.add("other", "y")
    ward.add("same", "x")
    ward.add("later", "x")
    with ward.database.begin() as tx:
        later = job.c.id == ward.jobs["later"]
        tx.execute(update(job).where(later).values(urgent_at=Now(60), not_before=Now(-1)))
    assert ward.claim(A, warm="x") == "same"
    ward.finish("same")
    assert ward.claim(A, warm="x") == "other", "one that came much later overtakes nobody"
    ward.finish("other")
    with ward.database.begin() as tx:
        tx.execute(update(job).where(job.c.id == ward.jobs["later"]).values(state=JobState.DONE))
    ward.add("stat", "y", priority=Priority.STAT)
    ward.add("routine", "x")
    assert ward.claim(A, warm="x") == "stat"


def test_a_model_is_kept_warm_as_long_as_its_slot_is_free_and_neither_drained_nor_asked_to_leave(ward):
    ward.open(A)
    ward.add("1", "x")

    def is_kept() -> bool:
        with ward.database.read() as tx:
            return room.is_kept_warm(tx, "x")

    assert not is_kept()
    assert ward.claim(A) == "1"
    assert not is_kept()
    ward.finish("1")
    assert is_kept()
    with ward.database.begin() as tx:
        pauses.add(tx, PauseKind.WORKER, "a", "", "jane")
    assert not is_kept()
    with ward.database.begin() as tx:
        pauses.remove(tx, PauseKind.WORKER, "a", "jane")
        room.ask_to_leave(tx, ["a"])
    assert not is_kept()


def test_jobs_whose_needs_nobody_has_told_wait_for_that_and_are_found(ward):
    ward.open(A)
    with ward.database.begin() as tx:
        ward.jobs["1"] = new_job(tx, ward.completion_id, "1", pipeline="new", pipeline_digest="n")
    assert ward.claim(A) is None
    with ward.database.begin() as tx:
        assert bundles.undeclared(tx) == [("new", "n")]
        assert not admission.any_misfit(tx)
        bundles.declare(tx, "n", 0, 0)
        assert bundles.undeclared(tx) == []
    assert ward.claim(A) == "1", "where nobody can read its manifest, its first run shows what it needs"
    with ward.database.begin() as tx:
        runs.add(tx, jobs.get(tx, ward.jobs["1"]), "a", "done", {}, Peak(800, None))
        assert needs(tx) == Room(1000, 0)
        bundles.declare(tx, "n", 5000, 3000)
        bundles.declare(tx, "n", 1, 1)
        assert needs(tx) == Room(5000, 3000), "until somebody can, who says it first"


def test_a_job_that_fits_on_no_device_is_held_with_what_it_needs_and_what_there_is(ward):
    cpu = slot("c", "cpu", Room(64_000, 0))
    ward.add("1", "x", host_mb=8000, device_mb=24_000)
    with ward.database.begin() as tx:
        assert not admission.any_misfit(tx), "as long as no device is known, nobody can say"
    ward.open(A, cpu)
    ward.add("2", "y", device_mb=16_000)
    with ward.database.begin() as tx:
        assert admission.any_misfit(tx)
        assert admission.hold_misfits(tx) == [ward.jobs["1"]]
        held = jobs.get(tx, ward.jobs["1"])
    assert (held.state, held.reason_code) == (JobState.HELD, TOO_LARGE)
    assert held.reason == (
        "it needs 8000 MB of memory and 24000 MB of a GPU: ward has 64000 MB on its CPU; "
        "ward has 64000 MB, its cuda:0 16000 MB"
    )
    assert ward.claim(cpu) is None, "where there is a GPU, its jobs do not run on the CPU"
    ward.open(slot("a", size=Room(64_000, 24_000)))
    with ward.database.begin() as tx:
        jobs.release(tx, ward.jobs["1"], "jane")
        assert not admission.any_misfit(tx)
    assert ward.claim(slot("a", size=Room(64_000, 24_000))) == "1"


def test_without_a_gpu_jobs_run_on_the_cpu_whatever_they_would_take_of_one(ward):
    cpu = Slot("c", "ward", "cpu", Room(64_000, UNLIMITED_MB), ("cpu",))
    ward.open(cpu)
    ward.add("1", "x", device_mb=24_000)
    assert ward.claim(cpu) == "1"


def test_a_bundle_needs_what_its_last_runs_took_with_a_margin(ward):
    ward.open(A)
    ward.add("1", "x", host_mb=6000, device_mb=10_000)

    def ends(outcome: str, peak: Peak | None) -> Room:
        with ward.database.begin() as tx:
            runs.add(tx, jobs.get(tx, ward.jobs["1"]), "a", outcome, {}, peak)
            return needs(tx)

    assert ends("done", Peak(2000, None)) == Room(2500, 10_000), (
        "a device is as declared until it is measured"
    )
    assert ends("done", Peak(1000, 4000)) == Room(2500, 5000)
    assert ends("done", Peak(5900, 12_000)) == Room(6000, 15_000), "of the machine never more than declared"
    for _ in range(bundles.LAST_RUNS):
        ends("done", Peak(1000, 4000))
    assert ends("done", Peak(1000, 4000)) == Room(1300, 5000)
    assert ends("CRASHED", None) == Room(1300, 5000)
    assert ends(RunOutOfMemory.code, None) == Room(6000, 12_500), "it had too little: all that is declared"


def test_a_worker_that_was_forgotten_claims_nothing_and_ends_its_model_until_it_is_there_again(ward):
    ward.open(A)
    ward.add("1", "x")
    with ward.database.begin() as tx:
        workers.end(tx, "a")
        assert room.is_to_leave(tx, "a")
    assert ward.claim(A) is None
    with ward.database.begin() as tx:
        workers.tell(tx, "a", A)
    assert ward.claim(A) == "1"


def test_what_a_frozen_worker_holds_counts_and_a_drained_one_makes_nobody_wait(ward):
    large = slot("b", "cuda:1", Room(64_000, 32_000))
    ward.open(A, large)
    ward.add("1", "x", host_mb=40_000)
    assert ward.claim(large) == "1"
    ward.finish("1")
    ward.add("2", "only the large one", device_mb=32_000, host_mb=64_000)
    ward.add("3", "y", host_mb=20_000)
    assert ward.claim(A) is None
    with ward.database.begin() as tx:
        pauses.add(tx, PauseKind.WORKER, "b", "", "jane")
        tx.execute(update(worker).where(worker.c.name == "b").values(seen_at=Now(-60)))
    ward.add("4", "z", host_mb=20_000)
    assert ward.claim(A) == "3"
    ward.finish("3")
    ward.add("5", "v", host_mb=30_000, priority=Priority.STAT)
    assert ward.claim(A) is None, "its model may still be there"


def test_two_slots_that_claim_at_the_same_moment_do_not_both_take_the_last_place(postgres_url):
    ward = Ward(upgraded(postgres_url))
    slots = [slot(name) for name in "abcdef"]
    ward.open(*slots)
    for number in range(6):
        ward.add(str(number), f"m{number}", device_mb=5000)
    got: list[str | None] = []
    start = threading.Barrier(len(slots))

    def claim(at: Slot) -> None:
        start.wait()
        got.append(ward.claim(at))

    threads = [threading.Thread(target=claim, args=(each,)) for each in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ward.database.close()
    assert sum(each is not None for each in got) == 3
