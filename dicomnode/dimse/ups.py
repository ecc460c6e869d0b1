"""Unified Procedure Step, Push, as service class provider (PS3.4 CC.2.2, CC.2.5, CC.2.7)."""

from __future__ import annotations

from typing import Protocol
from uuid import uuid4

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.events import Event

from dicomnode.dimse.edge import attempt
from dicomnode.dimse.references import named
from dicomnode.dimse.service import Service
from dicomnode.dimse.status import (
    ATTRIBUTES_NOT_THERE,
    SUCCESS,
    WORK_ITEM_ALREADY_CANCELED,
    WORK_ITEM_MODIFIED,
)
from dicomnode.errors import AttributeInvalid, NoSuchAction
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.uid import is_valid_uid
from dicomnode.model.workitem import UPS_PUSH, Attributes

REQUEST_CANCEL = 2
"""The action type by which a cancellation is asked for (PS3.4 table CC.2-1)."""


class WorkItems(Protocol):
    """What answers; the same as by UPS-RS."""

    def create(self, SOPInstanceUID: str | None, ds: Dataset) -> tuple[str, bool]:
        """The UID, and whether it is other than what was asked for."""

    def retrieve(self, SOPInstanceUID: str) -> Attributes:
        """One work item. Raises NoSuchWorkItem."""

    def request_cancel(self, SOPInstanceUID: str, requester: str, request: Dataset) -> str | None:
        """A warning where it was cancelled before. Raises NoSuchWorkItem."""


def ups_push(items: WorkItems) -> Service:
    """N-CREATE, N-GET, and N-ACTION by which a work item's cancellation is asked for."""

    def handle_create(event: Event, facts: AssociationFacts) -> tuple[int, Dataset | None]:
        given = str(event.request.AffectedSOPInstanceUID or "")
        uid = given or f"2.25.{uuid4().int}"
        status, created = attempt("ups.refused", facts, lambda: items.create(uid, _attributes(event, uid)))
        if created is not None and created[1]:
            status = WORK_ITEM_MODIFIED
        return status, None if given else named(uid)

    def handle_get(event: Event, facts: AssociationFacts) -> tuple[int, Dataset | None]:
        status, ds = attempt("ups.refused", facts, lambda: _retrieved(items, event))
        if ds is None:
            return status, None
        wanted = event.attribute_identifiers
        if not wanted:
            return status, ds
        there = Dataset({tag: ds[tag] for tag in wanted if tag in ds})
        return (SUCCESS if len(there) == len(set(wanted)) else ATTRIBUTES_NOT_THERE), there

    def handle_action(event: Event, facts: AssociationFacts) -> tuple[int, None]:
        status, warning = attempt("ups.refused", facts, lambda: _cancel(items, event, facts))
        return (WORK_ITEM_ALREADY_CANCELED if warning else status), None

    handlers = {evt.EVT_N_CREATE: handle_create, evt.EVT_N_GET: handle_get, evt.EVT_N_ACTION: handle_action}
    return Service(frozenset({UPS_PUSH}), handlers)


def _attributes(event: Event, uid: str) -> Dataset:
    """Raises AttributeInvalid."""
    if not is_valid_uid(uid):
        raise AttributeInvalid("Affected SOP Instance UID")
    try:
        ds: Dataset = event.attribute_list
        # Read as a whole here: what cannot be read is refused, not taken in part.
        ds.walk(lambda *_: None)
    except UNREADABLE as error:
        raise AttributeInvalid("Attribute List") from error
    return ds


def _retrieved(items: WorkItems, event: Event) -> Dataset:
    return Dataset.from_json(items.retrieve(str(event.request.RequestedSOPInstanceUID)))


def _cancel(items: WorkItems, event: Event, facts: AssociationFacts) -> str | None:
    if event.action_type != REQUEST_CANCEL:
        raise NoSuchAction(f"there is no action type {event.action_type}")
    try:
        request = event.action_information if event.request.ActionInformation else Dataset()
    except UNREADABLE as error:
        raise AttributeInvalid("Action Information") from error
    return items.request_cancel(str(event.request.RequestedSOPInstanceUID), facts.calling_ae, request)
