"""What is over leaves, oldest first; what is not confirmed, in use or promised never does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from dicomnode.config import RetentionSection
from dicomnode.model.commitment import CommitmentRequest, Reference
from dicomnode.model.delivery import DeliveryState
from dicomnode.model.instance import Addition, StoredObject
from dicomnode.model.job import SETTLED, JobState
from dicomnode.services.ingest import Ingest
from dicomnode.services.recovery import recover
from dicomnode.services.retention import GB, RetentionService
from dicomnode.store import catalog, commitments, completions, deliveries, leases
from dicomnode.store.clock import Now
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from dicomnode.store.schema import (
    audit,
    commitment_instance,
    completion,
    delivery,
    instance,
    job,
    result,
    series,
    workitem,
    workitem_input,
)
from tests.harness.heads import small_series
from tests.harness.schema import upgraded
from tests.services.test_ingest import received
from tests.store.builders import arrival, encoded, new_job

NOW = RetentionSection(minimum_age_h=0.0, age_days=1e-9, unused=True)
MR = "1.2.840.10008.5.1.4.1.1.4"


@dataclass
class Node:
    """Stores with series and results in whatever state, and a disk as full as a test says."""

    database: Database
    objects: ObjectStore
    disk: list[int] = field(default_factory=lambda: [1000, 0])

    def tick(self, chosen: RetentionSection = NOW, unconfirmable: tuple[str, ...] = ()) -> None:
        for path in self.objects.folder.rglob("*"):
            os.utime(path, (0, 0))
        RetentionService(
            self.database, self.objects, chosen, unconfirmable, lambda _: (self.disk[0], self.disk[1])
        ).tick()

    def put(self, data: bytes) -> StoredObject:
        return self.objects.put(data)

    def add_series(
        self, uid: str, *, routed: bool = True, complete: bool = True, size: int = 100
    ) -> list[str]:
        """Two instances with objects; returns their digests."""
        kept = []
        with self.database.begin() as tx:
            for number in (1, 2):
                stored = self.put(f"{uid} {number}".encode().ljust(size))
                catalog.add_instance(tx, replace(arrival(number, uid), stored=stored))
                kept.append(stored.sha256)
            if complete:
                completions.complete_ordered(tx, uid)
        if routed and complete:
            self.route()
        return kept

    def route(self) -> None:
        with self.database.begin() as tx:
            tx.execute(update(completion).values(routed_at=Now()))

    def add_job(self, uid: str, states: dict[str, str], state: str = "done") -> str:
        """A job on a series whose one result has a delivery for each destination; returns its digest."""
        self.add_series(uid, routed=False)
        with self.database.begin() as tx:
            (each,) = [each for each in completions.unrouted(tx) if each.SeriesInstanceUID == uid]
            new_job(tx, each.id, key=uid)
            claimed = leases.claim(tx, "w1", 30)
            assert claimed is not None
            made = replace(encoded(each.id), data=f"result of {uid}".encode())
            stored = self.put(made.data)
            (result_id,) = leases.finish(tx, claimed.lease, [(made, stored)])
            for destination, reached in states.items():
                deliveries.add(tx, result_id, destination)
                tx.execute(
                    update(delivery)
                    .where(delivery.c.result_id == result_id, delivery.c.destination == destination)
                    .values(state=reached)
                )
            tx.execute(update(job).where(job.c.id == claimed.id).values(state=state, not_before=Now(3600)))
        self.route()
        return stored.sha256

    def here(self, *digests: str) -> list[bool]:
        return [self.objects.path(digest).exists() for digest in digests]

    def all_series(self) -> list[str]:
        with self.database.read() as tx:
            return list(tx.execute(select(instance.c.sha256)).scalars())


@pytest.fixture
def node(tmp_path) -> Iterator[Node]:
    database = upgraded(f"sqlite:///{tmp_path / 'd.sqlite3'}")
    yield Node(database, ObjectStore(tmp_path, 0))
    database.close()


def test_a_series_that_is_over_leaves_and_its_rows_stay(node):
    kept = node.add_series("1.2.3.4")
    node.tick()
    assert node.here(*kept) == [False, False]
    with node.database.read() as tx:
        rows = tx.execute(select(instance.c.released_at, instance.c.removed_at)).all()
        facts = tx.execute(select(audit.c.facts)).scalar_one()
    assert all(None not in row for row in rows)
    assert (facts["kind"], facts["objects"], facts["bytes"]) == ("series", 2, 200)


def test_by_default_nothing_ever_leaves(node):
    kept = node.add_series("1.2.3.4")
    node.disk = [1000, 1000]
    node.tick(RetentionSection(minimum_age_h=0.0, unused=True))
    assert node.here(*kept) == [True, True]


def test_nothing_leaves_before_the_disk_is_as_full_as_is_said(node):
    kept = node.add_series("1.2.3.4")
    at_ninety = RetentionSection(minimum_age_h=0.0, unused=True, disk_high_percent=90.0)
    node.disk = [1000, 890]
    node.tick(at_ninety)
    assert node.here(*kept) == [True, True]
    node.disk = [1000, 910]
    node.tick(at_ninety)
    assert node.here(*kept) == [False, False]


def test_a_series_that_no_route_took_leaves_only_where_the_site_says_so(node):
    """Nothing here tells that it is anywhere else: the node may be the archive itself."""
    kept = node.add_series("1.2.3.4")
    node.tick(NOW.model_copy(update={"unused": False}))
    assert node.here(*kept) == [True, True]


def test_what_is_younger_than_the_minimum_stays_on_a_full_disk_too(node):
    kept = node.add_series("1.2.3.4")
    node.disk = [1000, 1000]
    node.tick(RetentionSection(age_days=1e-9, unused=True))
    assert node.here(*kept) == [True, True]


def test_the_oldest_leave_first_and_no_more_than_is_needed(node):
    kept = [digest for uid in ("1.2.1", "1.2.2", "1.2.3") for digest in node.add_series(uid)]
    node.tick(RetentionSection(minimum_age_h=0.0, unused=True, quota_gb=350 / GB))
    assert node.here(*kept) == [False] * 4 + [True] * 2
    node.tick(RetentionSection(minimum_age_h=0.0, unused=True, quota_gb=350 / GB))
    assert node.here(*kept) == [False] * 4 + [True] * 2


def test_on_a_full_disk_as_much_leaves_as_brings_it_to_the_low_mark(node):
    kept = [digest for uid in ("1.2.1", "1.2.2", "1.2.3") for digest in node.add_series(uid)]
    node.disk = [10_000, 9_100]
    node.tick(RetentionSection(minimum_age_h=0.0, unused=True, disk_high_percent=90.0, disk_low_percent=88.0))
    assert node.here(*kept) == [False] * 4 + [True] * 2


def test_what_is_not_complete_or_not_routed_stays(node):
    kept = node.add_series("1.2.1", complete=False) + node.add_series("1.2.2", routed=False)
    node.tick()
    assert node.here(*kept) == [True] * 4


@pytest.mark.parametrize("state", sorted(set(JobState) - SETTLED))
def test_the_input_and_the_results_of_a_job_that_has_not_ended_stay(node, state):
    made = node.add_job("1.2.1", {"pacs": "confirmed"}, state)
    node.tick()
    assert node.here(made, *node.all_series()) == [True] * 3


def test_the_input_stays_while_a_notice_is_due(node):
    node.add_job("1.2.1", {"pacs": "confirmed"})
    with node.database.begin() as tx:
        tx.execute(update(job).values(notice_due=True))
    node.tick()
    assert node.here(*node.all_series()) == [True] * 2


def test_a_result_that_no_destination_has_stays(node):
    made = node.add_job("1.2.1", {})
    node.tick()
    assert node.here(made) == [True]


def test_a_destination_that_nobody_asks_is_no_proof_and_no_obstacle(node):
    alone = node.add_job("1.2.1", {"viewer": "sent"})
    beside = node.add_job("1.2.2", {"viewer": "sent", "pacs": "confirmed"})
    node.tick(unconfirmable=("viewer",))
    assert node.here(alone, beside) == [True, False]


def test_what_this_node_has_committed_itself_to_keep_stays(node):
    kept = node.add_series("1.2.1") + node.add_series("1.2.2")
    request = CommitmentRequest("2.25.1", [Reference(MR, "1.2.1.1"), Reference(MR, "1.2.2.1")])
    with node.database.begin() as tx:
        commitments.receive(tx, "CT1", request, 0)
        failed = commitment_instance.c.SOPInstanceUID == "1.2.2.1"
        tx.execute(update(commitment_instance).where(failed).values(failure_reason=0x0112))
    node.tick()
    assert node.here(*kept) == [True, True, False, False]


def test_the_input_of_a_work_item_that_is_for_later_stays(node):
    kept = node.add_series("1.2.1")
    with node.database.begin() as tx:
        item = tx.execute(
            insert(workitem)
            .values(
                SOPInstanceUID="1.2.9",
                ProcedureStepState="SCHEDULED",
                InputReadinessState="READY",
                ScheduledProcedureStepPriority="MEDIUM",
                start_at=Now(3600),
                pipeline="toy",
                attributes={},
                created_at=Now(),
                modified_at=Now(),
            )
            .returning(workitem.c.id)
        ).scalar_one()
        given = {"workitem_id": item, "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.1"}
        tx.execute(insert(workitem_input).values(**given, waiting=True))
    node.tick()
    assert node.here(*kept) == [True, True]
    with node.database.begin() as tx:
        tx.execute(update(workitem_input).values(waiting=False))
    node.tick()
    assert node.here(*kept) == [False, False]


def test_what_became_needed_after_its_release_is_kept(node):
    kept = node.add_series("1.2.1")
    with node.database.begin() as tx:
        tx.execute(update(instance).values(released_at=Now()))
        commitments.receive(tx, "CT1", CommitmentRequest("2.25.1", [Reference(MR, "1.2.1.1")]), 0)
    node.tick()
    assert node.here(*kept) == [True, True]
    with node.database.read() as tx:
        assert set(tx.execute(select(instance.c.released_at)).scalars()) == {None}


def test_a_removal_that_was_begun_is_ended_after_a_kill(node):
    kept = node.add_series("1.2.1")
    with node.database.begin() as tx:
        tx.execute(update(instance).values(released_at=Now()))
    node.objects.remove(kept[0])
    node.tick(RetentionSection(unused=True))
    assert node.here(*kept) == [False, False]
    with node.database.read() as tx:
        assert None not in tx.execute(select(instance.c.removed_at)).scalars()


def test_bytes_that_another_row_names_stay(node):
    (first, second) = node.add_series("1.2.1")
    made = node.add_job("1.2.2", {"pacs": "dead"})
    with node.database.begin() as tx:
        tx.execute(update(result).where(result.c.sha256 == made).values(sha256=first))
    node.tick()
    assert node.here(first, second) == [True, False]


def test_an_instance_that_comes_again_after_it_has_left_is_kept_anew(node):
    ingest = Ingest(node.database, node.objects)
    came = [received(ds) for ds in small_series(2)]
    for each in came:
        assert ingest.store(each) is Addition.ADDED
    with node.database.begin() as tx:
        completions.complete_ordered(tx, tx.execute(select(series.c.SeriesInstanceUID)).scalar_one())
    node.route()
    node.tick()
    assert node.here(*node.all_series()) == [False, False]
    recover(node.database, node.objects)
    assert ingest.store(came[0]) is Addition.REPEATED
    assert sorted(node.here(*node.all_series())) == [False, True]
    with node.database.read() as tx:
        assert [stored.sha256 for stored in catalog.recent_objects(tx, 10)] == [
            digest for digest in node.all_series() if node.here(digest)[0]
        ]


def test_a_young_file_waits_for_it_may_belong_to_a_writer(node):
    kept = node.add_series("1.2.1")
    service = RetentionService(node.database, node.objects, NOW, ())
    service.tick()
    assert node.here(*kept) == [True, True]
    node.tick()
    assert node.here(*kept) == [False, False]


STATES = st.dictionaries(st.sampled_from(["pacs", "viewer", "cloud"]), st.sampled_from(list(DeliveryState)))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outcomes=st.lists(st.tuples(STATES, st.sampled_from(list(JobState))), min_size=4, max_size=8),
    unconfirmable=st.sets(st.sampled_from(["viewer", "cloud"])),
)
def test_never_an_unconfirmed_one_goes_and_never_what_a_job_needs(tmp_path_factory, outcomes, unconfirmable):
    folder = tmp_path_factory.mktemp("node")
    database = upgraded(f"sqlite:///{folder / 'd.sqlite3'}")
    node = Node(database, ObjectStore(folder, 0))
    made = [
        (node.add_job(f"1.2.{number}", states, state), states, state)
        for number, (states, state) in enumerate(outcomes, 1)
    ]
    node.tick(unconfirmable=tuple(unconfirmable))
    for number, (digest, states, state) in enumerate(made, 1):
        proven = {DeliveryState.CONFIRMED, DeliveryState.SUPERSEDED}
        owed = {
            reached
            for name, reached in states.items()
            if reached not in proven and not (reached == DeliveryState.SENT and name in unconfirmable)
        }
        may_go = state in SETTLED and not owed
        with database.read() as tx:
            inputs = tx.execute(
                select(instance.c.sha256).where(
                    instance.c.SOPInstanceUID.in_([f"1.2.{number}.1", f"1.2.{number}.2"])
                )
            ).scalars()
            assert node.here(*inputs) == [not may_go] * 2
        assert node.here(digest) == [not (may_go and proven & set(states.values()))]
    database.close()
