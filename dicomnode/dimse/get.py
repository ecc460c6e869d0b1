"""Retrieve by C-GET as service class provider (PS3.4 C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from dicomnode.dimse.information_model import GET
from dicomnode.dimse.negotiation import negotiated_for, retrieve_options
from dicomnode.dimse.retrieval import OnOutcome, OnRetrieve, retrieve
from dicomnode.dimse.sender import send_over
from dicomnode.dimse.service import Service
from dicomnode.dimse.status import SUCCESS
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.result import OutgoingInstance


def get(on_retrieve: OnRetrieve) -> Service:
    """C-GET: the sub-operations go over the requestor's own association, for which it has to be SCP.

    What it does not take as it is stored, it gets decompressed.
    """

    def handle(event: Event, facts: AssociationFacts) -> None:
        perform = partial(_perform, event.assoc)
        retrieve(event, facts, negotiated_for(event, GET), on_retrieve, perform)

    return Service(frozenset(GET), {evt.EVT_C_GET: handle}, extended=retrieve_options)


def _perform(
    assoc: Association,
    instances: Sequence[OutgoingInstance],
    on_outcome: OnOutcome,
    ended: Callable[[], bool],
) -> None:
    send_over(assoc, instances, on_outcome, ended, accepted=frozenset({SUCCESS}), decompress=True)
