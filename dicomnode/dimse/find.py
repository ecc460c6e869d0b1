"""Query as service class provider (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.events import Event

from dicomnode.dimse.edge import attempt
from dicomnode.dimse.information_model import FIND, Negotiated
from dicomnode.dimse.negotiation import negotiated_for, query_options
from dicomnode.dimse.service import Service
from dicomnode.dimse.status import CANCELLED, PENDING, PENDING_WITH_WARNING
from dicomnode.errors import QueryNotUnderstood
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.instance import AssociationFacts

OnFind = Callable[[Dataset, Negotiated], Iterable[Dataset]]


def find(on_find: OnFind, holds: Callable[[Dataset, Negotiated], bool] = lambda *_: True) -> Service:
    """C-FIND: what `on_find` yields are the identifiers of the pending responses.

    `holds` is False where a key of the request is one that is not matched here: each response says so.
    """

    def handle(event: Event, facts: AssociationFacts) -> Iterator[tuple[int, Dataset | None]]:
        negotiated = negotiated_for(event, FIND)
        status, pending = attempt(
            "find.failed", facts, lambda: _pending(holds(identifier_of(event), negotiated))
        )
        if pending is None:
            yield status, None
            return
        status, found = attempt("find.failed", facts, lambda: iter(on_find(identifier_of(event), negotiated)))
        while found is not None:
            status, identifier = attempt("find.failed", facts, partial(next, found, None))
            if identifier is None:
                break
            # C-CANCEL (PS3.7 9.3.2.3)
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield pending, identifier
        yield status, None

    return Service(frozenset(FIND), {evt.EVT_C_FIND: handle}, extended=query_options)


def _pending(holds: bool) -> int:
    return PENDING if holds else PENDING_WITH_WARNING


def identifier_of(event: Event) -> Dataset:
    """The request's identifier; raises QueryNotUnderstood where it is none."""
    try:
        identifier: Dataset = event.identifier
    except UNREADABLE as error:
        raise QueryNotUnderstood("Identifier", "is no data set") from error
    return identifier
