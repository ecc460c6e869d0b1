"""Modality Performed Procedure Step as service class provider (PS3.4 F.7)."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.events import Event
from pynetdicom.sop_class import ModalityPerformedProcedureStep

from dicomnode.dimse.edge import attempt
from dicomnode.dimse.references import instances_of, named, uid_of
from dicomnode.dimse.service import Service
from dicomnode.errors import AttributeInvalid, AttributeMissing
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.announcement import InstancesBySeries, StepReport, StepState
from dicomnode.model.instance import AssociationFacts

MPPS = str(ModalityPerformedProcedureStep)

OnReport = Callable[[StepReport], object]


def mpps(on_create: OnReport, on_set: OnReport) -> Service:
    """N-CREATE and N-SET, each answered once the call has returned and what was told is durable."""

    def handle_create(event: Event, facts: AssociationFacts) -> tuple[int, Dataset | None]:
        uid = str(event.request.AffectedSOPInstanceUID or f"2.25.{uuid4().int}")
        status, _ = attempt("mpps.refused", facts, lambda: on_create(_created(event, uid)))
        return status, None if event.request.AffectedSOPInstanceUID else named(uid)

    def handle_set(event: Event, facts: AssociationFacts) -> tuple[int, None]:
        status, _ = attempt("mpps.refused", facts, lambda: on_set(_modified(event)))
        return status, None

    return Service(frozenset({MPPS}), {evt.EVT_N_CREATE: handle_create, evt.EVT_N_SET: handle_set})


def _created(event: Event, uid: str) -> StepReport:
    """A new step is in progress (PS3.4 F.7.2.1.2). Raises AttributeMissing, AttributeInvalid."""
    try:
        report = _report(event.attribute_list, uid)
    except UNREADABLE as error:
        raise AttributeInvalid("Attribute List") from error
    if report.state is None:
        raise AttributeMissing("PerformedProcedureStepStatus")
    if report.state is not StepState.IN_PROGRESS:
        raise AttributeInvalid("PerformedProcedureStepStatus")
    return report


def _modified(event: Event) -> StepReport:
    """Raises AttributeMissing, AttributeInvalid."""
    try:
        return _report(event.modification_list, str(event.request.RequestedSOPInstanceUID))
    except UNREADABLE as error:
        raise AttributeInvalid("Modification List") from error


def _report(ds: Dataset, uid: str) -> StepReport:
    state = ds.get("PerformedProcedureStepStatus")
    if state and state not in list(StepState):
        raise AttributeInvalid("PerformedProcedureStepStatus")
    return StepReport(uid, StepState(state) if state else None, _series(ds))


def _series(ds: Dataset) -> InstancesBySeries | None:
    """What the step made, images and others; None where nothing is said of it."""
    items = ds.get("PerformedSeriesSequence")
    if not items:
        return None
    series: dict[str, frozenset[str]] = {}
    for item in items:
        uid = uid_of(item, "SeriesInstanceUID")
        images = item.get("ReferencedImageSequence") or []
        others = item.get("ReferencedNonImageCompositeSOPInstanceSequence") or []
        series[uid] = series.get(uid, frozenset()) | instances_of([*images, *others])
    return series
