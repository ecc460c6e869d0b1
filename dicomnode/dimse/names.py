"""What SOP classes, service classes and transfer syntaxes are called (PS3.6 A)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import sop_class
from pynetdicom.events import InterventionEvent
from pynetdicom.sop_class import SOPClass, uid_to_service_class

EVERY_TRANSFER_SYNTAX = tuple(
    uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"
)
"""Every one that the standard has ever had."""

_SERVICE_CLASSES = {"ProcedureStep": "Modality Performed Procedure Step", "QueryRetrieve": "Query/Retrieve"}


def uid_name(uid: str) -> str:
    """The name that the standard gives a UID, or the UID itself where nobody here knows it."""
    name = UID(uid).name
    return _newer_names().get(uid, uid) if name == uid else name


@cache
def _newer_names() -> dict[str, str]:
    """pynetdicom knows SOP classes that pydicom does not name yet; its keywords are their names."""
    found = ((name, value) for name, value in vars(sop_class).items() if isinstance(value, SOPClass))
    return {str(value): _spaced(name) for name, value in found}


def service_class_name(SOPClassUID: str) -> str:
    """The service class of a SOP class, as pynetdicom has it (PS3.4)."""
    name = str(uid_to_service_class(SOPClassUID).__name__).removesuffix("ServiceClass")
    return _SERVICE_CLASSES.get(name) or _spaced(name)


def operation_name(event: InterventionEvent) -> str:
    """C-STORE for EVT_C_STORE."""
    return str(event.name).removeprefix("EVT_").replace("_", "-")


def by_number(uids: Iterable[str]) -> list[str]:
    """In the order of their components."""
    return sorted(set(uids), key=lambda uid: [int(part) for part in uid.split(".")])


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
