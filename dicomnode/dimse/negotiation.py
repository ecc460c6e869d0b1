"""What a requestor proposes beside presentation contexts, and what it is answered (PS3.7 D.3.3)."""

from __future__ import annotations

from collections.abc import Mapping

from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from dicomnode.dimse.information_model import FIND, Negotiated, Root

_RELATIONAL = 0
_COMBINED = 1
_FUZZY = 2
"""Where in the application information each option stands (PS3.4 C.5.1.1.1)."""
_QUERY_OPTIONS = (_RELATIONAL, _COMBINED, _FUZZY)
_RETRIEVE_OPTIONS = (_RELATIONAL,)


def query_options(proposed: bytes) -> bytes:
    """The answer to the options of a C-FIND; those that are not known are declined (PS3.4 C.5.1.1.1)."""
    return _agreed(proposed, _QUERY_OPTIONS)


def retrieve_options(proposed: bytes) -> bytes:
    """The answer to the options of a C-MOVE or C-GET (PS3.4 C.5.2.1.1, C.5.3.1.1)."""
    return _agreed(proposed, _RETRIEVE_OPTIONS)


def _agreed(proposed: bytes, known: tuple[int, ...]) -> bytes:
    return bytes(value == 1 and place in known for place, value in enumerate(proposed))


def negotiated_for(event: Event, models: Mapping[str, Root]) -> Negotiated:
    """How the identifier of this request is to be read."""
    abstract = str(event.context.abstract_syntax)
    extended: dict[str, bytes] = event.assoc.acceptor.sop_class_extended
    agreed = extended.get(abstract) or b""
    relational, combined, fuzzy = (place < len(agreed) and agreed[place] == 1 for place in _QUERY_OPTIONS)
    is_query = abstract in FIND
    return Negotiated(models[abstract], relational, is_query and combined, is_query and fuzzy)


def answer_extended(assoc: Association, SOPClassUID: str, information: bytes) -> None:
    """Answer a SOP class extended negotiation (PS3.7 D.3.3.5)."""
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = SOPClassUID, information
    assoc.acceptor.add_negotiation_item(item)


def answer_window(assoc: Association) -> None:
    """One operation at a time, whatever is proposed (PS3.7 D.3.3.3)."""
    if assoc.requestor.asynchronous_operations != (1, 1):
        item = AsynchronousOperationsWindowNegotiation()
        item.maximum_number_operations_invoked = item.maximum_number_operations_performed = 1
        assoc.acceptor.add_negotiation_item(item)


def answer_identity(assoc: Association) -> None:
    """Confirm a user whose identity was checked, where the requestor asks for that (PS3.7 D.3.3.7.2).

    For a name, with or without a passcode, the response is empty.
    """
    identity = assoc.requestor.user_identity
    if identity is not None and identity.positive_response_requested:
        item = UserIdentityNegotiation()
        item.server_response = b""
        assoc.acceptor.add_negotiation_item(item)
