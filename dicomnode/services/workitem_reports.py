"""Event reports about work items, queued for their subscribers (PS3.4 table CC.2.4-1, PS3.18 11.13)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicomnode.dicomweb.dicom_json import attribute, to_json
from dicomnode.model.workitem import UPS_EVENT, WORKLIST_UID, Attributes, EventType, StepState, WorkItem
from dicomnode.services.workitem_items import station
from dicomnode.services.workitem_model import add_reason
from dicomnode.store import subscriptions
from dicomnode.store.database import Transaction

_CARRIED = ("ReasonForCancellation", "ContactURI", "ContactDisplayName")
_DISCONTINUATION = "ProcedureStepDiscontinuationReasonCodeSequence"


def report_state(tx: Transaction, item: WorkItem, only: str | None = None) -> None:
    """The state that it is in, and whether its input is ready."""
    ds = Dataset()
    ds.ProcedureStepState, ds.InputReadinessState = item.state, item.readiness
    if item.state is StepState.CANCELED:
        add_reason(ds, item)
    _notify(tx, item, EventType.STATE_REPORT, to_json(ds), only)


def report_progress(tx: Transaction, item: WorkItem, progress: Dataset) -> None:
    """How far it is."""
    ds = Dataset()
    ds.ProcedureStepProgressInformationSequence = [progress]
    _notify(tx, item, EventType.PROGRESS_REPORT, to_json(ds))


def report_cancel_requested(tx: Transaction, item: WorkItem, requester: str, request: Dataset) -> None:
    """Somebody wants it cancelled, and says why."""
    ds = Dataset()
    ds.RequestingAE = requester
    for keyword in (*_CARRIED, _DISCONTINUATION):
        if request.get(keyword):
            setattr(ds, keyword, request.get(keyword))
    _notify(tx, item, EventType.CANCEL_REQUESTED, to_json(ds))


def report_assigned(tx: Transaction, item: WorkItem, ae_title: str) -> None:
    """The station that it is assigned to: this node."""
    ds = Dataset()
    ds.ScheduledStationNameCodeSequence = [station(ae_title)]
    _notify(tx, item, EventType.ASSIGNED, to_json(ds))


def report_restart(tx: Transaction) -> None:
    """The node is up again; it has lost neither work items nor subscriptions (PS3.4 CC.2.4.3)."""
    ds = Dataset()
    ds.SCPStatus = "RESTARTED"
    ds.SubscriptionListStatus = ds.UnifiedProcedureStepListStatus = "WARM START"
    report = _report(WORKLIST_UID, EventType.SCP_STATUS_CHANGE, to_json(ds))
    subscriptions.notify_watchers(tx, report)


def _notify(
    tx: Transaction, item: WorkItem, event: EventType, content: Attributes, only: str | None = None
) -> None:
    subscriptions.notify(tx, item.id, _report(item.SOPInstanceUID, event, content), only)


def _report(uid: str, event: EventType, content: Attributes) -> Attributes:
    return {
        **attribute(0x00000002, "UI", [UPS_EVENT]),
        **attribute(0x00001000, "UI", [uid]),
        **attribute(0x00001002, "US", [int(event)]),
        **content,
    }
