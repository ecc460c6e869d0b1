"""What can be done with work items from outside (PS3.4 CC.2, PS3.18 11).

The node is the performer of all its work items: nobody else can claim one, or speak as the one who did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import uuid4

import structlog
from pydicom.dataset import Dataset

from dicomnode.config import Config
from dicomnode.dicomweb.dicom_json import to_json
from dicomnode.errors import (
    IllegalTransition,
    LeaseLost,
    NoSuchSubscription,
    TransactionUIDIncorrect,
    TransactionUIDMissing,
    WorkItemCompleted,
    WorkItemConflict,
    WorkItemError,
    WorkItemRefused,
)
from dicomnode.imaging.elements import text_of
from dicomnode.model.query import Match, Query
from dicomnode.model.uid import derive_uid
from dicomnode.model.workitem import FINAL, PRIORITY_OF, Attributes, StepState, WorkItem
from dicomnode.pipeline.registry import Registry
from dicomnode.services.workitem_items import written
from dicomnode.services.workitem_model import WorkItemModel
from dicomnode.services.workitem_order import (
    OrderReader,
    keys_of,
    read_priority,
    read_readiness,
    read_start,
)
from dicomnode.services.workitem_progress import cancel
from dicomnode.services.workitem_reports import report_assigned, report_cancel_requested, report_state
from dicomnode.store import audit, jobs, subscriptions, workitem_inputs, workitems
from dicomnode.store.database import Database, Transaction

log = structlog.get_logger()

INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."
_FINAL = "The submitted request is inconsistent with the current state of the Workitem."
_ALREADY = "The UPS is already in the requested state of {}."
_DESCRIPTIVE = frozenset(
    {
        *("ProcedureStepLabel", "WorklistLabel", "CommentsOnTheScheduledProcedureStep"),
        *("ExpectedCompletionDateTime", "ScheduledProcedureStepExpirationDateTime"),
        *("ScheduledStationNameCodeSequence", "ScheduledStationClassCodeSequence"),
        *("ScheduledStationGeographicLocationCodeSequence", "ScheduledHumanPerformersSequence"),
        *("ReferencedRequestSequence", "AdmissionID", "IssuerOfAdmissionIDSequence"),
    }
)
"""What may be changed while a work item is SCHEDULED, beside its priority, readiness and start."""
_CONTROL = frozenset(
    {
        *("SpecificCharacterSet", "TimezoneOffsetFromUTC", "TransactionUID"),
        *("ScheduledProcedureStepPriority", "InputReadinessState", "ScheduledProcedureStepStartDateTime"),
    }
)


class WorkItems:
    """Answers UPS-RS; safe to call from several threads at once."""

    held = workitems.HELD_KEYS

    def __init__(self, database: Database, registry: Registry, config: Config) -> None:
        self._database, self._config = database, config
        self._orders, self._model = OrderReader(registry, config), WorkItemModel(config)

    def create(self, SOPInstanceUID: str | None, ds: Dataset) -> tuple[str, bool]:
        """Take a work item in; its UID, and whether it is other than what was asked for.

        Raises WorkItemRefused, WorkItemExists.
        """
        uid = SOPInstanceUID or derive_uid("work item", uuid4().hex)
        order = self._orders.read(uid, ds)
        with self._database.begin() as tx:
            workitem_id = workitems.add(tx, order.new)
            subscriptions.subscribe_watchers(tx, workitem_id)
            audit.record(tx, "work_ordered", {"workitem": uid, "pipeline": order.new.pipeline})
            item = workitems.lock(tx, workitem_id)
            report_state(tx, item)
            report_assigned(tx, item, self._config.node.ae_title)
        log.info("workitem.created", workitem=workitem_id, pipeline=order.new.pipeline)
        return uid, order.modified

    def retrieve(self, SOPInstanceUID: str) -> Attributes:
        """One work item. Raises NotFound."""
        with self._database.read() as tx:
            item = workitems.get(tx, SOPInstanceUID)
            return self._model.describe(tx, [item], whole=True)[0]

    def search(self, query: Query, *, whole: bool) -> tuple[list[Attributes], bool]:
        """At most `query.limit` work items, and whether there are more."""
        limit = query.limit
        asked = Query(query.level, query.matches, (), query.offset, None if limit is None else limit + 1)
        with self._database.read() as tx:
            found = workitems.search(tx, asked)
            return self._model.describe(tx, found[:limit], whole=whole), len(found) > len(found[:limit])

    def update(self, SOPInstanceUID: str, TransactionUID: str | None, changes: Dataset) -> None:
        """Change what a work item that has not begun says of itself (PS3.4 CC.2.6).

        Raises NotFound, WorkItemError.
        """
        with self._database.begin() as tx:
            item = self._locked(tx, SOPInstanceUID)
            if item.state is StepState.IN_PROGRESS:
                raise _not_the_performer(TransactionUID)
            if item.state in FINAL:
                raise WorkItemError(_FINAL)
            self._amend(tx, item, changes)

    def _amend(self, tx: Transaction, item: WorkItem, changes: Dataset) -> None:
        for element in changes:
            if element.keyword not in _DESCRIPTIVE | _CONTROL:
                raise WorkItemRefused(element.keyword or str(element.tag), "cannot be changed")
        described = {**item.attributes, **_without_control(changes)}
        ds = Dataset.from_json(described)
        start = read_start(changes) if "ScheduledProcedureStepStartDateTime" in changes else item.start
        values = keys_of(ds, start)
        described["00404005"] = {"vr": "DT", "Value": [written(start)]}
        readiness = read_readiness(changes) if "InputReadinessState" in changes else item.readiness
        priority = read_priority(changes) if "ScheduledProcedureStepPriority" in changes else item.priority
        workitems.amend(
            tx,
            item,
            attributes=described,
            start_at=start,
            InputReadinessState=readiness,
            ScheduledProcedureStepPriority=priority,
            **values,
        )
        for given in workitem_inputs.inputs(tx, [item.id])[item.id]:
            if given.job_id is not None and priority != item.priority:
                jobs.set_priority(tx, given.job_id, PRIORITY_OF[priority])
        now = workitems.lock(tx, item.id)
        if readiness is not item.readiness:
            report_state(tx, now)
        if "ScheduledStationNameCodeSequence" in changes:
            report_assigned(tx, now, self._config.node.ae_title)

    def change_state(self, SOPInstanceUID: str, state: StepState, TransactionUID: str | None) -> str | None:
        """Nobody but the node moves its work items (PS3.4 CC.2.1.3); a warning where it is there already.

        Raises NotFound, TransactionUIDMissing, TransactionUIDIncorrect, WorkItemConflict.
        """
        with self._database.read() as tx:
            item = workitems.get(tx, SOPInstanceUID)
        if not TransactionUID:
            raise TransactionUIDMissing
        if item.state in FINAL and item.state is state:
            return _ALREADY.format(state)
        if item.state is StepState.IN_PROGRESS and state in FINAL:
            raise TransactionUIDIncorrect
        raise WorkItemConflict(INCONSISTENT)

    def request_cancel(self, SOPInstanceUID: str, requester: str, request: Dataset) -> str | None:
        """Cancel a work item, its jobs with it (PS3.4 CC.2.2.3); a warning where that was done before.

        Raises NotFound, WorkItemConflict.
        """
        # An administrator reads it in a terminal.
        told = "".join(filter(str.isprintable, text_of(request, "ReasonForCancellation")))[:1024]
        reason = told or "cancelled by a UPS cancel request"
        with self._database.begin() as tx:
            item = workitems.get(tx, SOPInstanceUID)
            if item.state is StepState.CANCELED:
                return _ALREADY.format(item.state)
            if item.state is StepState.COMPLETED:
                raise WorkItemCompleted
            try:
                report_cancel_requested(tx, item, requester, request)
                cancel(tx, item, reason)
            except (IllegalTransition, LeaseLost):
                raise WorkItemConflict(INCONSISTENT) from None
        return None

    def subscribe(self, ae_title: str, SOPInstanceUID: str) -> None:
        """Tell this AE of a work item, from its state now on (PS3.4 CC.2.3.3). Raises NotFound."""
        with self._database.begin() as tx:
            item = self._locked(tx, SOPInstanceUID)
            subscriptions.subscribe(tx, ae_title, [item.id])
            report_state(tx, item, only=ae_title)

    def subscribe_worklist(self, ae_title: str, matches: Mapping[str, Match] | None) -> None:
        """Tell this AE of all work items, or of those that match, that there are and that will be."""
        with self._database.begin() as tx:
            subscriptions.subscribe_worklist(tx, ae_title, matches)
            there = workitems.unfinished(tx, matches or {})
            for workitem_id in subscriptions.subscribe(tx, ae_title, there):
                report_state(tx, workitems.lock(tx, workitem_id), only=ae_title)

    def unsubscribe(self, ae_title: str, SOPInstanceUID: str) -> None:
        """Tell this AE of a work item no more. Raises NotFound."""
        with self._database.begin() as tx:
            if not subscriptions.unsubscribe(tx, ae_title, workitems.get(tx, SOPInstanceUID).id):
                raise NoSuchSubscription(ae_title)

    def unsubscribe_worklist(self, ae_title: str, *, filtered: bool) -> None:
        """Tell this AE of nothing more. Raises NoSuchSubscription."""
        with self._database.begin() as tx:
            gone = subscriptions.unsubscribe_worklist(tx, ae_title, filtered=filtered)
            # Who has suspended hears of the items that there were.
            if not subscriptions.unsubscribe(tx, ae_title, None) + gone:
                raise NoSuchSubscription(ae_title)

    def suspend(self, ae_title: str, *, filtered: bool) -> None:
        """Tell this AE of no work item that is still to come. Raises NoSuchSubscription."""
        with self._database.begin() as tx:
            if not subscriptions.unsubscribe_worklist(tx, ae_title, filtered=filtered):
                raise NoSuchSubscription(ae_title)

    def connect(self, ae_title: str) -> str:
        """A new connection of this AE, which takes the place of an earlier one; its name."""
        connection = uuid4().hex
        with self._database.begin() as tx:
            subscriptions.connect(tx, ae_title, connection)
        return connection

    def pending(self, ae_title: str, connection: str, limit: int) -> list[tuple[int, Attributes]] | None:
        """The reports that wait for this AE, oldest first; None where another connection took its place."""
        with self._database.read() as tx:
            if not subscriptions.is_connected(tx, ae_title, connection):
                return None
            return subscriptions.pending(tx, ae_title, limit)

    def sent(self, notification_ids: Sequence[int]) -> None:
        """These reports went out."""
        with self._database.begin() as tx:
            subscriptions.sent(tx, notification_ids)

    def latest(self) -> int:
        """The number of the newest report."""
        with self._database.read() as tx:
            return subscriptions.latest(tx)

    @staticmethod
    def _locked(tx: Transaction, SOPInstanceUID: str) -> WorkItem:
        return workitems.lock(tx, workitems.get(tx, SOPInstanceUID).id)


def _not_the_performer(TransactionUID: str | None) -> TransactionUIDMissing | TransactionUIDIncorrect:
    return TransactionUIDIncorrect() if TransactionUID else TransactionUIDMissing()


def _without_control(changes: Dataset) -> Attributes:
    return to_json(Dataset({each.tag: each for each in changes if each.keyword not in _CONTROL}))
