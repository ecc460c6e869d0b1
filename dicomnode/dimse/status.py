"""Which status answers which error: the only place where wire codes are chosen (PS3.4 B.2.3, C.4)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dicomnode.errors import (
    AttributeInvalid,
    AttributeMissing,
    CommitmentNotUnderstood,
    DicomnodeError,
    DuplicateDiffers,
    DuplicateStep,
    DuplicateTransaction,
    IngestError,
    InvalidUID,
    MissingUID,
    NoSuchAction,
    NoSuchCommitment,
    NoSuchStep,
    NoSuchWorkItem,
    NotDicom,
    QueryNotUnderstood,
    QueryRefused,
    StorageFailed,
    StorageFull,
    StoreError,
    UIDMismatch,
    WorkItemCompleted,
    WorkItemConflict,
    WorkItemExists,
    WorkItemIncomplete,
    WorkItemNotScheduled,
    WorkItemRefused,
)

SUCCESS = 0x0000
PENDING = 0xFF00
PENDING_WITH_WARNING = 0xFF01
CANCELLED = 0xFE00
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211
SUBOPERATIONS_UNCOUNTED = 0xA701
SUBOPERATIONS_FAILED = 0xA702
MOVE_DESTINATION_UNKNOWN = 0xA801
SUBOPERATIONS_WITH_FAILURES = 0xB000
ATTRIBUTES_NOT_THERE = 0x0001
WORK_ITEM_MODIFIED = 0xB300
WORK_ITEM_ALREADY_CANCELED = 0xB304
STORED_WITH_WARNING = frozenset({0xB000, 0xB006, 0xB007})
"""The warnings under which a peer has kept an instance (PS3.4 B.2.3)."""
PROCESSING_FAILURE = 0x0110
"""Nothing is said about the instance: the sender may try it again (PS3.7 C.5.13)."""

STATUS: Mapping[type[DicomnodeError], int] = MappingProxyType(
    {
        StorageFull: 0xA700,
        StorageFailed: 0xA700,
        StoreError: 0xA700,
        UIDMismatch: 0xA900,
        MissingUID: 0xA900,
        InvalidUID: 0xC000,
        NotDicom: 0xC000,
        IngestError: 0xC000,
        DuplicateDiffers: 0x0111,
        QueryRefused: 0xA900,
        QueryNotUnderstood: 0xC000,
        NoSuchCommitment: 0x0112,
        CommitmentNotUnderstood: 0x0115,
        NoSuchAction: 0x0123,
        DuplicateTransaction: 0x0131,
        AttributeInvalid: 0x0106,
        DuplicateStep: 0x0111,
        NoSuchStep: 0x0112,
        AttributeMissing: 0x0120,
        WorkItemRefused: 0x0106,
        WorkItemIncomplete: 0x0120,
        WorkItemExists: 0x0111,
        WorkItemNotScheduled: 0xC309,
        NoSuchWorkItem: 0xC307,
        WorkItemCompleted: 0xC311,
        WorkItemConflict: 0xC313,
        DicomnodeError: PROCESSING_FAILURE,
    }
)


def status_of(error: DicomnodeError) -> int:
    """The status of the nearest class in the table; a subclass needs no line of its own."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def retrieve_status_of(status: int) -> int:
    """What C-MOVE and C-GET answer in place of a status that only other services have (PS3.4 C.4.2.1.5)."""
    return SUBOPERATIONS_UNCOUNTED if status == STATUS[StorageFull] else status
