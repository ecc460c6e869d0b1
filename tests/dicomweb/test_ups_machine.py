"""Work items against a model of them: whatever happens to jobs, what is answered and told agrees."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from pydicom.dataset import Dataset

from dicomnode.config import Config
from dicomnode.errors import NotFound, WorkItemConflict, WorkItemExists
from dicomnode.model.job import JobState, Lease
from dicomnode.model.query import Level, Query
from dicomnode.model.workitem import FINAL, STEP_OF, WORKLIST_UID, StepState, next_state, way
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import check_rule
from dicomnode.services.routing import RouteTable
from dicomnode.services.workitem_progress import WorkList
from dicomnode.services.workitems import WorkItems
from dicomnode.store import catalog, completions, jobs, leases, subscriptions
from dicomnode.store.objects import ObjectStore
from dicomnode.store.schema import identity, metadata
from tests.dicomweb.worklist import SETTINGS, order
from tests.harness.machines import hold_against
from tests.harness.schema import upgraded
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.store.builders import arrival

SERIES = [f"1.2.3.{number}" for number in range(3)]
WATCHER = "WATCHER"
_NEXT: dict[str, tuple[str, ...]] = {
    "SCHEDULED": ("IN PROGRESS",),
    "IN PROGRESS": ("COMPLETED", "CANCELED"),
}


def ordering(*series: str) -> Dataset:
    """An order for these series of one study; its results are for the one destination."""
    title, item = Dataset(), Dataset()
    title.DestinationAE = "PACS"
    item.DICOMStorageSequence = [title]
    model = order(*(("1.2.3", each) for each in series), OutputDestinationSequence=[item])
    return Dataset.from_json(model)


class Worklists(RuleBasedStateMachine):
    """The model: for each work item its state, and the state of each of its inputs."""

    uids = Bundle("uids")
    url = ""
    pipelines = Path()

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = upgraded(self.url or f"sqlite:///{self.folder.name}/d.sqlite3")
        registry, config = Registry.open(self.pipelines, check_rule), Config.model_validate(SETTINGS)
        objects = ObjectStore(Path(self.folder.name), 0)
        self.items = WorkItems(self.database, registry, config)
        self.engine = WorkList(self.database, objects, RouteTable(config), registry, config)
        self.model: dict[str, dict[str, Any]] = {}
        self.leases: dict[int, Lease] = {}
        self.here: set[str] = set()
        self.heard: dict[str, list[str]] = {}

    @initialize()
    def watch(self) -> None:
        self.items.subscribe_worklist(WATCHER, None)

    @rule(target=uids, number=st.integers(0, 4), inputs=st.sets(st.sampled_from(SERIES), min_size=1))
    def create(self, number: int, inputs: set[str]) -> str:
        uid = f"1.9.{number}"
        try:
            self.items.create(uid, ordering(*sorted(inputs)))
        except WorkItemExists:
            assert uid in self.model
        else:
            assert uid not in self.model
            self.model[uid] = {
                "state": StepState.SCHEDULED,
                "parts": dict.fromkeys(sorted(inputs), StepState.SCHEDULED),
                "jobs": {},
            }
            self._start()
        return uid

    @rule(series=st.sampled_from(SERIES))
    def receive(self, series: str) -> None:
        if series not in self.here:
            self.here.add(series)
            with self.database.begin() as tx:
                catalog.add_instance(tx, arrival(1, series))
                completions.complete_ordered(tx, series)
        self._start()

    def _start(self) -> None:
        self.engine.tick()
        with self.database.read() as tx:
            found = {(job.key, job.SeriesInstanceUID): job for job in jobs.find(tx, limit=1000)}
        known = {job_id for each in self.model.values() for job_id in each["jobs"]}
        fresh = sorted(job.id for job in found.values() if job.id not in known)
        by_id = {job.id: job for job in found.values()}
        waiting = [
            (uid, series)
            for uid, each in self.model.items()
            if each["state"] not in FINAL
            for series in each["parts"]
            if series in self.here and series not in each["jobs"].values()
        ]
        assert len(fresh) == len(waiting), "one job for each input that is here"
        for job_id, (uid, series) in zip(fresh, waiting, strict=True):
            assert by_id[job_id].SeriesInstanceUID == series
            self.model[uid]["jobs"][job_id] = series

    @rule()
    def claim(self) -> None:
        with self.database.begin() as tx:
            job = leases.claim(tx, "w", 60.0)
        if job is not None:
            self.leases[job.id] = job.lease
            self._happened(job.id, JobState.LEASED)

    @rule(how=st.sampled_from(["finish", "refuse", "give_up", "hand_back", "fail"]), data=st.data())
    def work(self, how: str, data: st.DataObject) -> None:
        if not self.leases:
            return
        job_id = data.draw(st.sampled_from(sorted(self.leases)))
        lease = self.leases.pop(job_id)
        with self.database.begin() as tx:
            if how == "finish":
                leases.finish(tx, lease, [])
            elif how == "hand_back":
                leases.hand_back(tx, lease)
            elif how == "fail":
                leases.fail(tx, lease, "CRASHED", "it died", attempts=100, backoff_s=0.0)
            else:
                getattr(leases, how)(tx, lease, "CODE", "a reason")
            state = jobs.get(tx, job_id).state
        self._happened(job_id, state)

    def _happened(self, job_id: int, state: JobState) -> None:
        self.engine.tick()
        for each in self.model.values():
            if job_id in each["jobs"]:
                each["parts"][each["jobs"][job_id]] = STEP_OF[state]
                each["state"] = next_state(each["state"], each["parts"].values())

    @rule(uid=uids)
    def cancel(self, uid: str) -> None:
        each = self.model[uid]
        try:
            warning = self.items.request_cancel(uid, "ME", Dataset())
        except WorkItemConflict:
            assert each["state"] is StepState.COMPLETED
            return
        assert (warning is not None) == (each["state"] is StepState.CANCELED)
        if warning is None:
            each["state"] = StepState.CANCELED
            for job_id in each["jobs"]:
                self.leases.pop(job_id, None)
        self.engine.tick()

    @rule(uid=uids)
    def subscribe_again(self, uid: str) -> None:
        self.items.subscribe(WATCHER, uid)

    @invariant()
    def what_is_answered_is_the_model(self) -> None:
        found, _ = self.items.search(Query(Level.STUDY, {}, (), 0, 1000), whole=False)
        told = {each["00080018"]["Value"][0]: each["00741000"]["Value"][0] for each in found}
        assert told == {uid: str(each["state"]) for uid, each in self.model.items()}
        with pytest.raises(NotFound):
            self.items.retrieve("1.9.404")

    @invariant()
    def what_is_told_is_a_way_from_scheduled_to_what_is_answered(self) -> None:
        with self.database.begin() as tx:
            reports = subscriptions.pending(tx, WATCHER, 10_000)
            subscriptions.sent(tx, [number for number, _ in reports])
        for _, report in reports:
            if report["00001002"]["Value"] == [1]:
                heard = self.heard.setdefault(report["00001000"]["Value"][0], [])
                state = report["00741000"]["Value"][0]
                assert not heard or state == heard[-1] or state in _NEXT[heard[-1]]
                heard.append(state)
        for uid, each in self.model.items():
            assert (self.heard[uid][0], self.heard[uid][-1]) == ("SCHEDULED", each["state"])

    def teardown(self) -> None:
        with self.database.begin() as tx:
            if self.url:
                for table in reversed(metadata.sorted_tables):
                    if table is not identity:  # it names the installation
                        tx.execute(table.delete())
        self.database.close()
        self.folder.cleanup()


def test_work_items_agree_with_their_model(database_url, tmp_path):
    write_toy_pipeline(tmp_path / "pipelines")
    url = database_url if database_url.startswith("postgresql") else ""
    hold_against(Worklists, examples=15, steps=25, url=url, pipelines=tmp_path / "pipelines")


def test_every_end_is_reached_through_in_progress():
    assert way(StepState.SCHEDULED, StepState.CANCELED) == (StepState.IN_PROGRESS, StepState.CANCELED)
    assert way(StepState.IN_PROGRESS, StepState.COMPLETED) == (StepState.COMPLETED,)
    assert way(StepState.COMPLETED, StepState.COMPLETED) == ()
    assert set(STEP_OF) == set(JobState)
    assert WORKLIST_UID == "1.2.840.10008.5.1.4.34.5"
