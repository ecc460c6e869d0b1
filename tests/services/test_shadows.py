"""A version in the shadow of another: what jobs it makes, what they never do, and how it is promoted."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from dicomnode.config import Config
from dicomnode.errors import ConfigError, GateFailed, IllegalTransition, NotFound, RunCancelled
from dicomnode.model.instance import StoredObject
from dicomnode.model.job import Job, JobState
from dicomnode.model.queue import Limit, PauseKind
from dicomnode.model.version import is_in_share
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import check_rule
from dicomnode.services import administration, versions
from dicomnode.services.comparison import ComparisonService, comparison_of, find_comparisons, summary_of
from dicomnode.services.completion import order_completion
from dicomnode.services.execution import Worker
from dicomnode.services.ingest import Ingest
from dicomnode.services.notices import NoticeService
from dicomnode.services.origin import origin_of
from dicomnode.services.routing import RouteTable, RoutingService
from dicomnode.services.running import Made, RunOrder
from dicomnode.services.shadows import giving_way
from dicomnode.services.versions import Use
from dicomnode.services.workitem_progress import WorkList
from dicomnode.store import jobs, leases, results, retention, runs
from dicomnode.store.clock import Now
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from dicomnode.store.retention import Kind, Terms
from dicomnode.store.schema import audit, completion, delivery, instance, result, workitem
from tests.harness.heads import small_series
from tests.harness.schema import upgraded
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.services.test_ingest import received
from tests.store.builders import encoded

ROUTE = {"name": "mr", "when": "true", "pipeline": "toy", "send_to": ["a"], "notice": True, "priority": "low"}
SETTINGS = {
    "destination": [{"name": "a", "dimse": {"ae_title": "A", "host": "h", "port": 1}}],
    "route": [ROUTE],
}


class Node:
    """Stores, two versions of a pipeline, the first of them active, and what makes jobs of series."""

    def __init__(self, folder: Path, url: str) -> None:
        self.database, self.objects = Database(url), ObjectStore(folder, 0)
        self.database.upgrade()
        self.pipelines, self.config = folder / "pipelines", Config.model_validate(SETTINGS)
        write_toy_pipeline(self.pipelines)
        self.registry = Registry.open(self.pipelines, check_rule)
        versions.settle_versions(self.database, self.registry)
        write_toy_pipeline(self.pipelines, level=700, version="2.0.0")
        self.fresh = Registry.open(self.pipelines, check_rule)

    def shadow(self, percent: float = 100.0) -> None:
        versions.begin_shadow(self.database, self.fresh, "toy", "2.0.0", percent, "jane")

    def series(self, uid: str = "1.2.3.1") -> list[Job]:
        """A series comes and is routed; the jobs of it, the oldest first."""
        for ds in small_series(3, SeriesInstanceUID=uid, StudyInstanceUID="1.2.3"):
            Ingest(self.database, self.objects).store(received(ds))
        order_completion(self.database, uid)
        RoutingService(self.database, self.objects, RouteTable(self.config), self.registry).tick()
        return [job for job in self.jobs() if job.SeriesInstanceUID == uid]

    def jobs(self) -> list[Job]:
        with self.database.read() as tx:
            return jobs.find(tx)[::-1]

    def claim(self, *limits: Limit) -> Job | None:
        with self.database.begin() as tx:
            return leases.claim(tx, "w1", 30, limits)

    def finish(self, number: int = 0) -> Job:
        """Run the next job to its end, with one result if it has a number."""
        job = self.claim()
        assert job is not None
        made = [(encoded(number), StoredObject(f"{number:064x}", 1))] if number else []
        with self.database.begin() as tx:
            leases.finish(tx, job.lease, made)
            runs.add(tx, job, "w1", "done", {})
        return job

    def compare(self) -> int:
        return ComparisonService(self.database, self.objects).tick()


@pytest.fixture
def node(tmp_path: Path, database_url: str) -> Iterator[Node]:
    node = Node(tmp_path, database_url)
    yield node
    node.database.close()


def version_of(job: Job) -> tuple[str, bool]:
    return job.pipeline_version, job.shadow_of is not None


def test_a_series_gets_one_shadow_job_of_the_same_input_behind_all_others_and_for_nobody(node: Node):
    node.shadow()
    job, beside = node.series()
    assert (version_of(job), version_of(beside)) == (("1.0.0", False), ("2.0.0", True))
    assert (beside.shadow_of, beside.input_digest) == (job.id, job.input_digest)
    assert (beside.send_to, beside.notify, beside.deadline_at) == ((), (), None)
    assert beside.key != job.key
    later, beside_later = node.series("1.2.3.2")
    assert [claimed.id for claimed in iter(node.claim, None)] == [
        job.id,
        later.id,
        beside.id,
        beside_later.id,
    ]
    with node.database.read() as tx:
        bases = [origin_of(tx, node.config, each, each.updated_at).series_number_base for each in node.jobs()]
    assert bases[0] == bases[1] != bases[2] == bases[3], "no SeriesNumber is taken by a shadow"
    RoutingService(node.database, node.objects, RouteTable(node.config), node.registry).tick()
    assert len(node.jobs()) == 4


def test_a_share_is_chosen_by_the_series_alone_and_a_stopped_shadow_makes_no_more(node: Node):
    inside = next(uid for n in range(99) if is_in_share(uid := f"1.2.4.{n}", 10))
    outside = next(uid for n in range(99) if not is_in_share(uid := f"1.2.4.{n}", 10))
    assert sum(is_in_share(f"1.2.5.{n}", 10) for n in range(10_000)) == pytest.approx(1000, abs=120)
    assert all(is_in_share(f"1.2.5.{n}", 100) for n in range(1000))
    node.shadow(10)
    assert (len(node.series(inside)), len(node.series(outside))) == (2, 1)
    versions.end_shadow(node.database, "toy", "2.0.0", "jane")
    assert len(node.series("1.2.3.9")) == 1
    with pytest.raises(NotFound):
        versions.end_shadow(node.database, "toy", "2.0.0", "jane")
    with pytest.raises(ConfigError, match="no shadow of itself"):
        versions.begin_shadow(node.database, node.fresh, "toy", "1.0.0", 100, "jane")


def test_a_shadow_tells_nobody_withdraws_nothing_and_is_no_work_item(node: Node):
    node.shadow()
    job, beside = node.series()
    node.finish(1)
    with node.database.begin() as tx:
        sent = tx.execute(select(result.c.id)).scalar_one()
        tx.execute(
            delivery.insert().values(
                {column: Now() for column in ("not_before", "created_at", "updated_at")}
                | {"result_id": sent, "destination": "a", "state": "confirmed"}
                | {"fence": 1, "attempt": 1, "checks": 0}
            )
        )
        assert len(results.offered(tx, job)) == 1
        assert results.offered(tx, beside) == []
    claimed = node.claim()
    assert claimed is not None
    with node.database.begin() as tx:
        leases.give_up(tx, claimed.lease, "CRASHED", "it crashed")
    assert NoticeService(node.database, node.objects, node.registry, node.config).tick() == 1
    work = WorkList(node.database, node.objects, RouteTable(node.config), node.registry, node.config)
    while work.tick():
        pass
    with node.database.read() as tx:
        assert tx.execute(select(func.count()).select_from(result)).scalar_one() == 1
        assert tx.execute(select(func.count()).select_from(workitem)).scalar_one() == 1
    counts = administration.describe_all(node.database, ["a"])
    assert (counts["jobs"], counts["shadow_jobs"]) == ({"done": 1}, {"dead": 1})
    with pytest.raises(IllegalTransition):
        administration.rerun_job(node.database, node.fresh, beside.id, "jane")


def test_a_shadow_uses_up_no_limit_and_gives_way_to_what_waits_longer_than_a_free_worker_would_let_it(
    node: Node,
):
    limit = Limit((PauseKind.PIPELINE, "toy"), 1, 1e-9)
    node.shadow()
    job, _ = node.series()
    with node.database.begin() as tx:
        jobs.cancel(tx, job.id, "not needed")
    beside = node.claim(limit)
    assert beside is not None
    gives_way = giving_way(node.database, beside, "w1", ())
    assert not gives_way()
    with node.database.begin() as tx:
        assert not leases.others_wait(tx, "w1", (limit,), 0)
    later, _ = node.series("1.2.3.2")
    with node.database.begin() as tx:
        assert leases.others_wait(tx, "w1", (limit,), 0)
        leases.hand_back(tx, beside.lease, 10)
        runs.add(tx, beside, "w1", "handed_back", {})
    assert [claimed.id for claimed in iter(lambda: node.claim(limit), None)][:1] == [later.id]
    with node.database.begin() as tx:
        assert not leases.others_wait(tx, "w1", (), 0), "only a shadow waits"


class Endless:
    """An executor whose runs go on until they are cut; `begun` are the jobs' digests, in their order."""

    def __init__(self, at_run: Callable[[], object]) -> None:
        self._at_run, self.begun = at_run, []

    def ready(self) -> bool:
        return True

    def run(self, order: RunOrder, cancelled: Callable[[], bool]) -> Made:
        self.begun.append(order.pipeline_digest)
        self._at_run()
        deadline = time.monotonic() + 60
        while not cancelled() and time.monotonic() < deadline:
            time.sleep(0.01)
        raise RunCancelled("it was cut")

    def close(self) -> None:
        pass


def test_a_shadow_that_runs_is_cut_for_a_job_that_comes_and_handed_back_as_if_it_had_not_begun(node: Node):
    node.shadow()
    _, beside = node.series()
    node.finish()
    executor = Endless(lambda: node.series("1.2.3.2"))
    worker = Worker(node.database, executor, node.config, "w1")
    assert worker.tick(threading.Event())
    handed_back = next(job for job in node.jobs() if job.id == beside.id)
    assert (executor.begun, handed_back.state) == ([beside.pipeline_digest], JobState.READY)
    assert handed_back.attempt == 0
    claimed = node.claim()
    assert claimed is not None
    assert version_of(claimed) == ("1.0.0", False)
    assert node.finish().SeriesInstanceUID == "1.2.3.2", "the one that was cut rests a while"


def test_what_the_gate_stops_of_a_shadow_waits_for_nobody(node: Node):
    node.shadow()
    node.series()
    node.finish()

    def stop_it() -> None:
        raise GateFailed("the SEG is not what was computed")

    assert Worker(node.database, Endless(stop_it), node.config, "w1").tick(threading.Event())
    assert [(job.state, job.reason_code) for job in node.jobs()] == [
        (JobState.DONE, None),
        (JobState.DEAD, "GATE_FAILED"),
    ]


def test_promotion_takes_the_next_series_and_what_waits_keeps_its_version_until_a_rollback(node: Node):
    (before,) = node.series()
    versions.promote(node.database, node.fresh, "toy", "2.0.0", "jane")
    with pytest.raises(ConfigError, match="already"):
        versions.promote(node.database, node.fresh, "toy", "2.0.0", "jane")
    (after,) = node.series("1.2.3.2")
    assert (before.pipeline_version, after.pipeline_version) == ("1.0.0", "2.0.0")
    for job in (before, after):
        assert (
            node.registry.pinned("toy", job.pipeline_digest).manifest.pipeline.version == job.pipeline_version
        )
    assert versions.roll_back(node.database, node.fresh, "toy", "joe").version == "1.0.0"
    (again,) = node.series("1.2.3.3")
    assert again.pipeline_version == "1.0.0"
    with pytest.raises(NotFound, match="earlier version"):
        versions.roll_back(node.database, node.fresh, "toy", "joe")
    with node.database.read() as tx:
        rows = tx.execute(select(audit.c.event, audit.c.facts).order_by(audit.c.id)).all()
    said = [
        (row.event, row.facts["version"], row.facts.get("actor")) for row in rows if "version" in row.facts
    ]
    assert said == [
        ("pipeline_adopted", "1.0.0", None),
        ("pipeline_promoted", "2.0.0", "jane"),
        ("pipeline_rolled_back", "1.0.0", "joe"),
    ]


def test_a_node_does_not_start_where_nobody_said_which_version_is_active_or_it_is_gone(node: Node, tmp_path):
    versions.settle_versions(node.database, node.fresh)
    shutil.rmtree(node.pipelines / "toy")
    only_the_other = Registry.open(node.pipelines, check_rule)
    with pytest.raises(ConfigError, match=r"1\.0\.0 is not installed; installed are 2\.0\.0"):
        versions.settle_versions(node.database, only_the_other)
    (line,) = versions.missing_versions(node.database, only_the_other)
    assert line.startswith("toy: 1.0.0 is not installed, and is active")
    (job,) = node.series()
    assert job.pipeline_version == "1.0.0", "its destinations are told that it could not run"
    with pytest.raises(NotFound):
        node.registry.pinned("toy", job.pipeline_digest)
    write_toy_pipeline(node.pipelines, level=501)
    changed = Registry.open(node.pipelines, check_rule)
    with pytest.raises(ConfigError, match=r"1\.0\.0 has other files than digest"):
        versions.settle_versions(node.database, changed)
    standings = {
        (each.version.version, each.use, bool(each.problem), each.jobs)
        for each in (versions.describe_versions(node.database, changed))
    }
    assert standings == {
        ("1.0.0", Use.ACTIVE, True, 1),
        ("1.0.0", Use.IDLE, False, 0),
        ("2.0.0", Use.IDLE, False, 0),
    }
    shutil.rmtree(node.pipelines / "toy-2.0.0")
    alone = Registry.open(node.pipelines, check_rule)
    versions.settle_versions(node.database, alone)
    assert versions.missing_versions(node.database, alone)[0].endswith("is idle; 1 jobs wait for it")
    fresh = upgraded(f"sqlite:///{tmp_path / 'fresh.sqlite3'}")
    write_toy_pipeline(node.pipelines, version="3.0.0")
    with pytest.raises(ConfigError, match="none is the active version"):
        versions.settle_versions(fresh, Registry.open(node.pipelines, check_rule))
    fresh.close()


def test_two_that_have_ended_are_compared_once_and_again_when_one_of_them_begins_again(node: Node):
    node.shadow()
    job, beside = node.series()
    assert node.compare() == 0
    claimed = node.claim()
    assert claimed is not None
    with node.database.begin() as tx:
        leases.refuse(tx, claimed.lease, "NOT_MR", "The series is not MR.")
    assert node.compare() == 0, "its shadow has not run"
    assert find_comparisons(node.database, "toy", None, None)[0].found is None
    node.finish()
    assert (node.compare(), node.compare()) == (1, 0)
    (row,) = find_comparisons(node.database, "toy", "2.0.0", job.SeriesInstanceUID)
    assert (row.job_id, row.shadow_id, row.active_version, row.shadow_version) == (
        job.id,
        beside.id,
        "1.0.0",
        "2.0.0",
    )
    found = comparison_of(row)
    assert found is not None
    assert found.verdict == "active refused (NOT_MR), shadow done"
    assert found.same_input
    summary = summary_of([row])
    assert (summary.series, summary.both_done, summary.verdicts) == (1, 0, {found.verdict: 1})
    assert [each.SeriesInstanceUID for each in summary.refused] == [job.SeriesInstanceUID]
    administration.retry_job(node.database, node.fresh, job.id, "jane")
    assert find_comparisons(node.database, "toy", None, None)[0].found is None
    node.finish(1)
    assert node.compare() == 1
    (row,) = find_comparisons(node.database, "toy", None, None)
    found = comparison_of(row)
    assert found is not None
    assert found.both_done
    assert found.notes == ("a SEG has left this node and cannot be compared",)
    assert find_comparisons(node.database, "toy", "3.0.0", None) == []


def test_a_shadow_that_was_started_again_keeps_its_version(node: Node):
    node.shadow()
    _, beside = node.series()
    with node.database.begin() as tx:
        jobs.cancel(tx, beside.id, "not needed")
    administration.retry_job(node.database, node.fresh, beside.id, "jane")
    (_, again) = node.jobs()
    assert (version_of(again), again.state) == (("2.0.0", True), JobState.READY)


def test_what_a_shadow_made_goes_with_its_series_which_does_not_wait_for_it(node: Node):
    node.shadow()
    node.series()
    node.finish()
    with node.database.begin() as tx:
        tx.execute(update(completion).values(routed_at=Now()))
        assert [each.kind for each in retention.oldest(tx, Terms(), -1)] == [Kind.SERIES], "it still waits"
    node.finish(2)
    with node.database.begin() as tx:
        (series,) = retention.oldest(tx, Terms(), -1)
        retention.release(tx, series)
        (made,) = retention.oldest(tx, Terms(), -1)
        assert made.kind is Kind.RESULT
        retention.release(tx, made)
        for candidate in retention.leaving(tx):
            assert retention.remove(tx, candidate, Terms(), lambda _: True)
        gone = select(func.count()).select_from(instance).where(instance.c.removed_at.is_(None))
        assert tx.execute(gone).scalar_one() == 0
    assert node.compare() == 1
    found = comparison_of(find_comparisons(node.database, "toy", None, None)[0])
    assert found is not None
    assert found.both_done


def test_a_study_that_names_two_patients_has_no_shadow(node: Node):
    node.shadow()
    for patient in ("P1", "P2"):
        for ds in small_series(1, SeriesInstanceUID="1.2.3.1", StudyInstanceUID="1.2.3", PatientID=patient):
            Ingest(node.database, node.objects).store(replace(received(ds)))
    order_completion(node.database, "1.2.3.1")
    RoutingService(node.database, node.objects, RouteTable(node.config), node.registry).tick()
    (job,) = node.jobs()
    assert (job.state, job.shadow_of) == (JobState.HELD, None)
