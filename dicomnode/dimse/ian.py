"""Instance Availability Notification: taken from others, and told to others (PS3.4 R)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import uuid4

from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import InstanceAvailabilityNotification

from dicomnode.dimse.edge import attempt
from dicomnode.dimse.references import instances_of, named, required, uid_of
from dicomnode.dimse.requestor import association, requesting, status_of
from dicomnode.dimse.service import Service
from dicomnode.dimse.status import SUCCESS
from dicomnode.errors import AttributeInvalid, ContextRefused, DimseError
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.announcement import Announcement, AvailableInstance
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.peer import Peer

IAN = str(InstanceAvailabilityNotification)
ONLINE, UNAVAILABLE = "ONLINE", "UNAVAILABLE"
"""The instance cannot be retrieved any more; the other values of (0008,0056) say how quickly it can."""
DUPLICATE_SOP_INSTANCE = 0x0111
"""PS3.7 10.1.5.1.6"""


def ian(on_announcement: Callable[[Announcement], object]) -> Service:
    """N-CREATE. When `on_announcement` returns, what was told is durable and 0x0000 is answered."""

    def handle(event: Event, facts: AssociationFacts) -> tuple[int, Dataset | None]:
        status, _ = attempt("ian.refused", facts, lambda: on_announcement(_announcement_of(event)))
        # Left to the provider (PS3.7 10.1.5.1.4).
        given = event.request.AffectedSOPInstanceUID
        return status, None if given is not None else named(f"2.25.{uuid4().int}")

    return Service(frozenset({IAN}), {evt.EVT_N_CREATE: handle})


def availability_context() -> PresentationContext:
    """What is proposed to a peer that is to be told."""
    return build_context(IAN)


def announce(
    peer: Peer, calling_ae: str, SOPInstanceUID: str, available: Sequence[AvailableInstance]
) -> None:
    """Tell the peer of instances of one study. Raises ContextRefused, AssociationFailed, DimseError.

    A notification that is told again has the same UID: where the peer knows it, it has been told.
    """
    with association(peer, calling_ae, [availability_context()]) as assoc:
        if not assoc.accepted_contexts:
            raise ContextRefused(IAN, "any transfer syntax")
        with requesting():
            response, _ = assoc.send_n_create(_notification(available), IAN, SOPInstanceUID)
        status = status_of(response)
        if status not in (SUCCESS, DUPLICATE_SOP_INSTANCE):
            raise DimseError(f"the peer answered N-CREATE with status 0x{status:04X}")


def _notification(available: Sequence[AvailableInstance]) -> Dataset:
    ds = Dataset()
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.StudyInstanceUID = available[0].StudyInstanceUID
    series: dict[str, list[Dataset]] = {}
    for instance in available:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.SOPClassUID
        item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        item.InstanceAvailability = ONLINE
        item.RetrieveAETitle = list(instance.retrieve_ae_titles)
        series.setdefault(instance.SeriesInstanceUID, []).append(item)
    ds.ReferencedSeriesSequence = []
    for uid, items in series.items():
        of_series = Dataset()
        of_series.SeriesInstanceUID = uid
        of_series.ReferencedSOPSequence = items
        ds.ReferencedSeriesSequence.append(of_series)
    return ds


def _announcement_of(event: Event) -> Announcement:
    """Raises AttributeMissing and AttributeInvalid."""
    available: dict[str, frozenset[str]] = {}
    unavailable: dict[str, frozenset[str]] = {}
    try:
        ds = event.attribute_list
        uid_of(ds, "StudyInstanceUID")
        for item in required(ds, "ReferencedSeriesSequence"):
            series = uid_of(item, "SeriesInstanceUID")
            references = required(item, "ReferencedSOPSequence")
            gone = [each for each in references if each.get("InstanceAvailability") == UNAVAILABLE]
            there = [each for each in references if each.get("InstanceAvailability") != UNAVAILABLE]
            available[series] = available.get(series, frozenset()) | instances_of(there)
            unavailable[series] = unavailable.get(series, frozenset()) | instances_of(gone)
    except UNREADABLE as error:
        raise AttributeInvalid("Attribute List") from error
    return Announcement(available, unavailable)
