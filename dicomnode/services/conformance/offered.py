"""What others can ask of the node by DIMSE: presentation contexts, roles, options, statuses (PS3.2 A.4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pynetdicom.status import code_to_category

from dicomnode.dimse import status
from dicomnode.dimse.information_model import FIND, LEVELS
from dicomnode.dimse.names import (
    EVERY_TRANSFER_SYNTAX,
    by_number,
    operation_name,
    service_class_name,
    uid_name,
)
from dicomnode.dimse.service import Service
from dicomnode.errors import DicomnodeError
from dicomnode.services.conformance.document import Section, Table
from dicomnode.services.conformance.syntaxes import Sets
from dicomnode.store.find import held_keys

CONTEXTS = ("SOP class", "UID", "Transfer syntaxes", "Role", "Extended negotiation")
SCP, SCU = "SCP", "SCU where the requestor asks to be SCP"
OPTIONS = (
    "relational queries and retrieval",
    "combined date-time matching",
    "fuzzy semantic matching of person names",
    "timezone query adjustment",
    "enhanced multi-frame image conversion",
)
"""The bytes of the application information of Query/Retrieve (PS3.4 C.5.1.1.1)."""
_BYTES = 16
_TEXTS = {
    "C-ECHO": "C-ECHO is answered 0000.",
    "C-STORE": (
        "Level 2 (full). 0000 is answered once the bytes as they were received and their row in the "
        "catalog would survive a power failure. No element is changed or left out. Digital signatures stay "
        "as they are. The same instance sent again is acknowledged; another content under the same UIDs is "
        "refused with 0111 and the first one is kept. As SCU in this class the node takes part in the "
        "sub-operations of C-GET alone."
    ),
    "C-FIND": (
        "Each attribute of the tables below is matched and returned; another key constrains nothing, is "
        "answered empty, and the responses are FF01. Results of the node itself are found beside what was "
        "received. A C-CANCEL is obeyed between two responses."
    ),
    "C-MOVE": (
        "The move destination is an AE title of section 'Remote AE titles': any other is refused with "
        "A801. The sub-operations go over one association, as section 'Activity: send what a C-MOVE names' "
        "says. A C-CANCEL is obeyed between two sub-operations."
    ),
    "C-GET": (
        "The sub-operations go over the requestor's association, in the contexts in which it is SCP: in "
        "the transfer syntax in which the instance is stored, or decompressed. A C-CANCEL is obeyed "
        "between two sub-operations."
    ),
}
"""By operation."""
_MORE_TEXTS = {
    "Storage Commitment": (
        "An N-ACTION is answered 0000 once the request is written down. The report says of each instance "
        "whether its bytes are here and whole; it comes on the same association if that is still open, "
        "else on a new one to the requestor's AE title, as section 'Activity: report on storage "
        "commitment' says. What is committed to is kept. An N-EVENT-REPORT on what this node asked for is "
        "taken on any association."
    ),
    "Instance Availability Notification": (
        "An N-CREATE is answered 0000 once it is written down. The instances that it names, but for those "
        "that are UNAVAILABLE, are those that their series has: it is complete when they are here."
    ),
    "Modality Performed Procedure Step": (
        "A step is created and modified as the modality says, and remembered. The instances that a step "
        "names once it is COMPLETED are those that their series has: it is complete when they are here. "
        "Steps are not passed on."
    ),
    "Unified Procedure Step": (
        "Each job is a work item; one that is created becomes a job and runs, as section 'Resources' says "
        "of the same by UPS-RS. An N-ACTION may ask for a cancellation (type 2), which ends the job too, "
        "also one that runs. The node is the performer of all its work items: no other action is taken. "
        "Events are told by UPS-RS alone."
    ),
}
"""By service class."""
_NO_ERROR = {
    status.SUCCESS: "what was asked for is done",
    status.PENDING: "a match, or a sub-operation, and there is more to come",
    status.PENDING_WITH_WARNING: "a match; a key of the identifier is none that is matched here",
    status.CANCELLED: "the requestor cancelled the rest",
    status.SOP_CLASS_NOT_SUPPORTED: "the SOP class is not that of the presentation context",
    status.UNRECOGNIZED_OPERATION: "the command is none of the standard's",
    status.ATTRIBUTES_NOT_THERE: "some of the attributes that were asked for are not there",
    status.WORK_ITEM_MODIFIED: "the work item was created with modifications",
    status.WORK_ITEM_ALREADY_CANCELED: "the work item has been cancelled before",
    status.SUBOPERATIONS_UNCOUNTED: "the number of matches cannot be told, or is above 65,535",
    status.SUBOPERATIONS_FAILED: "no sub-operation succeeded",
    status.MOVE_DESTINATION_UNKNOWN: "the move destination is none that is configured",
    status.SUBOPERATIONS_WITH_FAILURES: "some sub-operations failed, or the peer warned",
}


def operations_of(service: Service) -> tuple[str, ...]:
    """The operations and notifications that a service answers."""
    return tuple(map(operation_name, service.handlers))


def title_of(service: Service) -> str:
    """The service class, with the operations that tell it from others of that class."""
    return f"{service_class_name(min(service.classes))} ({', '.join(operations_of(service))})"


def activities(services: Sequence[Service], sets: Sets) -> Iterator[Section]:
    """A section for each service: what is accepted, and what is done then."""
    for service in services:
        said = [_TEXTS.get(name) for name in operations_of(service)]
        text = tuple(filter(None, [*said, _MORE_TEXTS.get(service_class_name(min(service.classes)))]))
        keys = tuple(_keys()) if service.classes & FIND.keys() else ()
        yield Section(f"Activity: {title_of(service)}", text, (contexts(service, sets), *keys))


def contexts(service: Service, sets: Sets) -> Table:
    """The presentation contexts that are accepted, found out by asking the service."""
    syntaxes = sets.name(service.syntaxes(EVERY_TRANSFER_SYNTAX))
    roles = (SCP, SCU) if service.roles is not None and service.roles.scp else (SCP,)
    rows = tuple(
        (uid_name(uid), uid, syntaxes, roles, _options(service)) for uid in by_number(service.classes)
    )
    return Table(f"Accepted presentation contexts: {title_of(service)}", CONTEXTS, rows)


def _options(service: Service) -> tuple[str, ...]:
    """The options of the extended negotiation that are agreed on where they are proposed."""
    agreed = service.extended(b"\1" * _BYTES) if service.extended is not None else b""
    names = [*OPTIONS, *(f"byte {number}" for number in range(len(OPTIONS) + 1, _BYTES + 1))]
    return tuple(name for name, value in zip(names, agreed, strict=False) if value == 1) or ("none",)


def _keys() -> Iterator[Table]:
    for level in dict.fromkeys(level for levels in LEVELS.values() for level in levels):
        rows = tuple((keyword,) for keyword in sorted(held_keys(level)))
        yield Table(f"Keys of C-FIND at level {level}", ("Attribute",), rows)


def statuses() -> Table:
    """Every status that is answered, and what it says."""
    meanings: dict[int, list[str]] = {code: [text] for code, text in _NO_ERROR.items()}
    for error, code in status.STATUS.items():
        meanings.setdefault(code, []).append(_first_sentence(error))
    rows = tuple(
        (f"{code:04X}", _category(code), tuple(dict.fromkeys(texts)))
        for code, texts in sorted(meanings.items())
    )
    return Table("Statuses that are answered", ("Status", "Category", "When"), rows)


def _category(code: int) -> str:
    known = str(code_to_category(code))
    return "Failure" if known == "Unknown" else known


def _first_sentence(error: type[Exception]) -> str:
    if error is DicomnodeError:
        return "processing failure: nothing is said about the instance, and it may be sent again"
    return (error.__doc__ or "").splitlines()[0].rstrip(".")
