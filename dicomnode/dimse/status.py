"""Which status answers which error: the only place where wire codes are chosen (PS3.4 B.2.3, C.4.1.1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dicomnode.errors import (
    DicomnodeError,
    DuplicateDiffers,
    IngestError,
    InvalidUID,
    MissingUID,
    NotDicom,
    QueryNotUnderstood,
    QueryRefused,
    StorageFailed,
    StorageFull,
    StoreError,
    UIDMismatch,
)

SUCCESS = 0x0000
PENDING = 0xFF00
CANCELLED = 0xFE00
SOP_CLASS_NOT_SUPPORTED = 0x0122
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
        DicomnodeError: PROCESSING_FAILURE,
    }
)


def status_of(error: DicomnodeError) -> int:
    """The status of the nearest class in the table; a subclass needs no line of its own."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
