"""Unique identifiers: the check for those from outside, the derivation of our own (PS3.5 9, B.2)."""

from __future__ import annotations

import re
from uuid import UUID, uuid5

_VALID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_NAMESPACE = UUID("8b6f0f3e-6d3c-5f0e-9f5b-3f1a7d0a6c11")

IMPLEMENTATION_CLASS_UID = "2.25.114554052938991873018296164325485064861"
"""Names dicomnode as the writer of a file; the same in every version, so that bytes stay comparable."""
IMPLEMENTATION_VERSION_NAME = "DICOMNODE"


def is_valid_uid(value: str) -> bool:
    """True for a UID of at most 64 characters in dotted decimal form (PS3.5 9.1)."""
    return len(value) <= 64 and _VALID.fullmatch(value) is not None


def derive_uid(*parts: str) -> str:
    """A UID that is a function of `parts` alone: the same job gives the same UIDs again (PS3.5 B.2)."""
    return f"2.25.{uuid5(_NAMESPACE, chr(31).join(parts)).int}"
