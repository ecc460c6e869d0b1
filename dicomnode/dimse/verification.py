"""Verification: the node answers that it is there (PS3.4 A)."""

from __future__ import annotations

from pynetdicom import evt

from dicomnode.dimse.presentation import VERIFICATION
from dicomnode.dimse.service import Service
from dicomnode.dimse.status import SUCCESS


def verification() -> Service:
    """C-ECHO."""
    return Service(frozenset({VERIFICATION}), {evt.EVT_C_ECHO: lambda _event, _facts: SUCCESS})
