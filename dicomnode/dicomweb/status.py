"""Which HTTP status or failure reason answers which error: chosen nowhere else (PS3.18 8.5, I.2)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dicomnode.errors import (
    BadRequest,
    ClassRefused,
    DicomnodeError,
    DuplicateDiffers,
    Forbidden,
    ForeignPage,
    Gone,
    IngestError,
    KeysAway,
    Misdirected,
    MissingUID,
    NotAcceptable,
    NotEntitled,
    NotFound,
    QueryRefused,
    RequestError,
    RequestTooLarge,
    RequestTooSlow,
    StoreError,
    SyntaxRefused,
    TooManyGuesses,
    TooManyRequests,
    UIDMismatch,
    Unauthorized,
    UnsupportedMediaType,
    WorkItemConflict,
    WorkItemError,
    WorkItemExists,
)

RETRY_AFTER_S = 60
"""When a client whose request could not be kept may come again."""
RETRY_RATE_S = 1
"""When a client that sent too many requests may."""

STATUS: Mapping[type[DicomnodeError], int] = MappingProxyType(
    {
        BadRequest: 400,
        QueryRefused: 400,
        WorkItemError: 400,
        Unauthorized: 401,
        ForeignPage: 403,
        Forbidden: 403,
        NotEntitled: 403,
        NotFound: 404,
        NotAcceptable: 406,
        RequestTooSlow: 408,
        IngestError: 409,
        WorkItemExists: 409,
        WorkItemConflict: 409,
        Gone: 410,
        RequestTooLarge: 413,
        UnsupportedMediaType: 415,
        TooManyGuesses: 429,
        TooManyRequests: 429,
        Misdirected: 421,
        KeysAway: 503,
        StoreError: 503,
        DicomnodeError: 500,
    }
)


def http_status(error: DicomnodeError) -> int:
    """The status of the nearest class in the table; a subclass needs no line of its own."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


FAILURE_REASON: Mapping[type[DicomnodeError], int] = MappingProxyType(
    {
        StoreError: 0xA700,
        MissingUID: 0xA900,
        UIDMismatch: 0xA900,
        IngestError: 0xC000,
        SyntaxRefused: 0xC122,
        ClassRefused: 0x0122,
        DuplicateDiffers: 0x0111,
        RequestError: 0xC000,
        DicomnodeError: 0x0110,
    }
)
"""Why STOW did not store an instance (PS3.18 Table I.2-2)."""


def failure_reason(error: DicomnodeError) -> int:
    """The reason of the nearest class in the table."""
    return next(FAILURE_REASON[kind] for kind in type(error).__mro__ if kind in FAILURE_REASON)
