"""Elements in Explicit VR Little Endian, encoded without a data set for each (PS3.5 7.1.2, 7.5)."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Any

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr_element, write_dataset
from pydicom.tag import Tag


class EncodedSequence(RawDataElement):
    """A sequence whose items are encoded already; they hold names and codes in ASCII alone."""


def put_items(ds: Dataset, keyword: str, items: bytes) -> None:
    """Give `ds` a sequence of encoded items: of one a slice, pydicom would make hundreds of data sets."""
    tag = Tag(keyword)
    ds[tag] = EncodedSequence(tag, "SQ", len(items), items, 0, is_implicit_VR=False, is_little_endian=True)


def make_explicit(ds: Dataset, around: Sequence[Dataset] = ()) -> None:
    """Decide what pydicom leaves open until it writes, and mark what was not read from a file as Explicit VR
    Little Endian. So encoded sequences stay as they are, and pydicom, which else looks at all of what lies
    below an item before it writes it, looks at each item once. `around` are the data sets that `ds` is in.
    """
    ancestors = [ds, *around]
    for found in ds.elements():
        if isinstance(found, EncodedSequence):
            continue
        element: Any = correct_ambiguous_vr_element(
            ds[found.tag], ds, is_little_endian=True, ancestors=ancestors
        )
        if element.VR == "SQ":
            for each in element.value:
                if None in each.original_encoding:
                    make_explicit(each, ancestors)
    own = convert_encodings(ds.SpecificCharacterSet) if "SpecificCharacterSet" in ds else default_encoding
    ds.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=own)


def encoded(ds: Dataset) -> bytes:
    """The elements of a data set."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, ds)
    return buffer.getvalue()


def text(group: int, element: int, vr: str, value: str) -> bytes:
    """An element of a short ASCII value, padded to an even length (PS3.5 6.2, 7.1.2)."""
    padded = value.encode("ascii")
    padded += (b"\0" if vr == "UI" else b" ") * (len(padded) % 2)
    return pack("<HH2sH", group, element, vr.encode(), len(padded)) + padded


def item(content: bytes) -> bytes:
    """An item of a sequence."""
    return pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def sequence(group: int, element: int, items: bytes) -> bytes:
    """A sequence of encoded items."""
    return pack("<HH2sHL", group, element, b"SQ", 0, len(items)) + items
