"""The b-value of a plane, also where only the maker's own elements tell it."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicomnode.imaging.elements import number_of
from dicomnode.imaging.headers import UNREADABLE

_PRIVATE = (
    ("SIEMENS MR HEADER", 0x0019, 0x0C),
    ("Philips Imaging DD 001", 0x2001, 0x03),
    ("GEMS_PARM_01", 0x0043, 0x39),
)
"""Creator, group and element where scanners wrote it before enhanced MR had an attribute for it."""
_GE_OFFSET = 1e9
"""GE adds this to some b-values."""


def b_value(ds: Dataset) -> float | None:
    """s/mm², from Diffusion b-value (PS3.3 C.8.13.5.9) or what Siemens, Philips and GE wrote; else None."""
    public = number_of(ds, "DiffusionBValue")
    if public is not None:
        return public
    found = (_private(ds, *place) for place in _PRIVATE)
    return next((number for number in found if number is not None), None)


def _private(ds: Dataset, creator: str, group: int, element: int) -> float | None:
    try:
        value = ds.private_block(group, creator)[element].value
        first = value if isinstance(value, (str, int, float)) else value[0]
        return float(first) % _GE_OFFSET
    except UNREADABLE:
        return None
