"""Work items and jobs move together: an order becomes jobs, and what happens to jobs is told of work items.

`job_event` is the only source: each event is read once, in the order of its job, and moves the work item and
queues the reports in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import structlog
from pydicom.dataset import Dataset

from dicomnode.config import Config
from dicomnode.dicomweb.dicom_json import to_json
from dicomnode.errors import NotFound, Refused
from dicomnode.model.instance import Completion, InstanceRef
from dicomnode.model.job import SETTLED, Job, JobEvent, JobState, NewJob
from dicomnode.model.uid import derive_uid
from dicomnode.model.workitem import (
    FINAL,
    PRIORITY_OF,
    STEP_OF,
    STEP_PRIORITY,
    Input,
    NewWorkItem,
    Readiness,
    StepState,
    WorkItem,
    next_state,
    way,
)
from dicomnode.pipeline.registry import Registry
from dicomnode.services.new_job import new_job
from dicomnode.services.routing import Facts, RouteTable, completion_facts, input_digest
from dicomnode.services.versions import active_version, priors_of
from dicomnode.services.workitem_items import named_instances, parameter, pipeline_code, station, written
from dicomnode.services.workitem_model import DISCONTINUED, progress
from dicomnode.services.workitem_order import keys_of
from dicomnode.services.workitem_reports import report_assigned, report_progress, report_restart, report_state
from dicomnode.store import audit, catalog, completions, jobs, subscriptions, workitem_inputs, workitems
from dicomnode.store.database import Database, Transaction
from dicomnode.store.identity import installation_uid
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

QUEUE_LIMIT = 10_000
"""So many reports wait for a subscriber that is away; then the oldest go."""
BATCH = 200
_TRIM_S = 10.0
ROUTE = "UPS-RS"
"""What stands in the place of a route where a work item was ordered."""
_CREATED = "create"


class WorkList:
    """Starts what was ordered and is here, and tells of what happened."""

    def __init__(
        self, database: Database, objects: Objects, routes: RouteTable, registry: Registry, config: Config
    ) -> None:
        self._database, self._objects = database, objects
        self._routes, self._registry, self._config = routes, registry, config
        self._trimmed = time.monotonic()

    def start(self) -> None:
        """Tell who watches the worklist that the node is up again."""
        with self._database.begin() as tx:
            report_restart(tx)

    def tick(self) -> int:
        """Start and tell what is due, each in its own transaction; returns how much was done.

        Where a great deal is due, as after an upgrade, the next tick goes on: others have work, too.
        """
        done = 0
        with self._database.read() as tx:
            idle = not workitem_inputs.any_startable(tx) and not workitems.any_unreported(tx)
        while not idle and done < BATCH and (self._start_next() or self._tell_next()):
            done += 1
        if time.monotonic() - self._trimmed > _TRIM_S:
            self._trimmed = time.monotonic()
            self._trim()
        return done

    def _trim(self) -> None:
        with self._database.begin() as tx:
            gone = subscriptions.trim(tx, QUEUE_LIMIT)
        if gone:
            log.warning("reports.dropped", reports=gone)

    def _start_next(self) -> bool:
        with self._database.begin() as tx:
            found = workitem_inputs.next_startable(tx)
            if found is not None:
                self._start(tx, *found)
        return found is not None

    def _start(self, tx: Transaction, item: WorkItem, given: Input) -> None:
        """One input becomes a job; where that cannot be, the work item is cancelled and says why."""
        completion = completions.current_completion(tx, given.StudyInstanceUID, given.SeriesInstanceUID)
        instances = catalog.input_set(tx, completion.series_id, completion.generation)
        if not named_instances(item.attributes, given) <= {each.SOPInstanceUID for each in instances}:
            workitem_inputs.await_more(tx, item, given, completion.generation)
            return
        try:
            job_id = jobs.add(tx, self._job(tx, item, completion, instances))
        except (Refused, NotFound, OSError) as error:
            log.warning("workitem.not_started", workitem=item.id, error=type(error).__name__)
            reason = str(error) if isinstance(error, (Refused, NotFound)) else "the series cannot be read"
            cancel(tx, item, f"{item.pipeline} was not started: {reason}")
        else:
            workitem_inputs.start_input(tx, item, given, job_id)
            log.info("workitem.started", workitem=item.id, job=job_id)

    def _job(
        self, tx: Transaction, item: WorkItem, completion: Completion, instances: Sequence[InstanceRef]
    ) -> NewJob:
        version = active_version(tx, self._registry, item.pipeline)
        send_to = item.send_to
        if send_to is None:
            send_to = self._destinations(item, completion_facts(self._objects, completion, instances))
        return new_job(
            completion,
            input_digest(instances),
            version,
            route=ROUTE,
            priority=PRIORITY_OF[item.priority],
            send_to=send_to,
            notify=send_to,
            priors=priors_of(self._registry, version),
            order=item.SOPInstanceUID,
        )

    def _destinations(self, item: WorkItem, facts: Facts) -> tuple[str, ...]:
        """Those of the routes that match and name the pipeline. Raises Refused where there is none."""
        matched = [
            decision.route
            for decision in self._routes.decide(facts)
            if decision.verdict.matched and decision.route.pipeline == item.pipeline
        ]
        if not any(route.send_to for route in matched):
            raise Refused("NO_DESTINATION", "it names none, and no route that matches has one")
        return tuple(dict.fromkeys(name for route in matched for name in route.send_to))

    def _tell_next(self) -> bool:
        with self._database.begin() as tx:
            job_id = workitems.next_unreported_job(tx)
            if job_id is not None:
                for event_id, event, state, at in workitems.take_unreported(tx, job_id):
                    self._tell(tx, jobs.get(tx, job_id), event_id, event, state, at)
        return job_id is not None

    def _tell(
        self, tx: Transaction, job: Job, event_id: int, event: str, state: JobState, at: datetime
    ) -> None:
        if job.shadow_of is not None:
            return
        item = workitems.of_job(tx, job.id)
        begins = item is None if event == _CREATED else event == JobEvent.RETRY
        if begins and (item is None or item.state in FINAL):
            self._add(tx, job, event_id)
        elif item is not None and item.state not in FINAL:
            settle(tx, workitems.lock(tx, item.id), at, {job.id: state})

    def _add(self, tx: Transaction, job: Job, event_id: int) -> None:
        """A job that nobody ordered, or that begins anew after its work item ended: another work item."""
        uid = derive_uid(installation_uid(tx), "work item", job.key, str(event_id))
        workitem_id = workitems.add(tx, self._new(tx, job, uid))
        subscriptions.subscribe_watchers(tx, workitem_id)
        item = workitems.lock(tx, workitem_id)
        report_state(tx, item)
        report_assigned(tx, item, self._config.node.ae_title)

    def _new(self, tx: Transaction, job: Job, uid: str) -> NewWorkItem:
        study = workitems.patient_of(tx, job.series_id)
        ds = Dataset()
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
            setattr(ds, keyword, study[keyword])
        request = Dataset()
        request.StudyInstanceUID, request.AccessionNumber = job.StudyInstanceUID, study["AccessionNumber"]
        ds.ReferencedRequestSequence = [request]
        ds.StudyInstanceUID = job.StudyInstanceUID
        ds.WorklistLabel, ds.ProcedureStepLabel = self._config.node.ae_title, self._title(job.pipeline)
        ds.ScheduledWorkitemCodeSequence = [pipeline_code(job.pipeline, self._title(job.pipeline))]
        ds.ScheduledStationNameCodeSequence = [station(self._config.node.ae_title)]
        ds.ScheduledProcedureStepStartDateTime = written(job.created_at)
        ds.ScheduledProcessingParametersSequence = [
            parameter("pipeline", job.pipeline),
            parameter("route", job.route),
        ]
        return NewWorkItem(
            SOPInstanceUID=uid,
            pipeline=job.pipeline,
            priority=STEP_PRIORITY[job.priority],
            readiness=Readiness.READY,
            start=job.created_at,
            send_to=job.send_to,
            inputs=(Input(job.StudyInstanceUID, job.SeriesInstanceUID, False, job.id),),
            attributes=to_json(ds),
            keys=keys_of(ds, job.created_at),
        )

    def _title(self, pipeline: str) -> str:
        try:
            return self._registry.get(pipeline).manifest.pipeline.title
        except NotFound:
            return pipeline


def settle(
    tx: Transaction, item: WorkItem, at: datetime | None = None, said: Mapping[int, JobState] | None = None
) -> None:
    """Move a locked work item to where its inputs are, and report each step of the way, or else the progress.

    `said`: the states that an event tells of, where a job may have gone on since.
    """
    inputs = workitem_inputs.inputs(tx, [item.id])[item.id]
    works = jobs.get_all(tx, [given.job_id for given in inputs if given.job_id is not None])
    states = {job_id: work.state for job_id, work in works.items()} | dict(said or {})
    parts = [_part(given, states) for given in inputs]
    steps = way(item.state, next_state(item.state, parts))
    for state in steps:
        if state is StepState.CANCELED:
            _tell_reasons(tx, item, [replace(work, state=states[work.id]) for work in works.values()])
        workitems.move(tx, item, state, at)
        item = workitems.lock(tx, item.id)
        report_state(tx, item)
    if not steps:
        report_progress(tx, item, progress(item, inputs, list(works.values())))


def _part(given: Input, states: Mapping[int, JobState]) -> StepState:
    if given.job_id is not None:
        return STEP_OF[states[given.job_id]]
    return StepState.SCHEDULED if given.waiting else StepState.CANCELED


def _tell_reasons(tx: Transaction, item: WorkItem, works: Sequence[Job]) -> None:
    ended = [work for work in works if work.state in DISCONTINUED]
    if ended:
        # A job that has begun anew since then has no reason any more.
        told = (f"{work.reason_code}: {work.reason}" if work.reason else work.state for work in ended)
        reasons = "; ".join(dict.fromkeys(told))
        workitems.tell_reason(tx, item, DISCONTINUED[ended[0].state], reasons)


def cancel(tx: Transaction, item: WorkItem, reason: str) -> None:
    """End whatever a work item still waits for or works on. Raises NotFound, IllegalTransition, LeaseLost."""
    inputs = workitem_inputs.inputs(tx, [item.id])[item.id]
    for job_id in sorted(given.job_id for given in inputs if given.job_id is not None):
        if jobs.get(tx, job_id).state not in SETTLED:
            jobs.cancel(tx, job_id, reason)
            audit.record(tx, "job_cancelled", {"job": job_id, "reason": reason})
    item = workitems.lock(tx, item.id)
    workitem_inputs.stop_waiting(tx, item)
    workitems.tell_reason(tx, item, DISCONTINUED[JobState.CANCELLED], reason)
    settle(tx, item)
