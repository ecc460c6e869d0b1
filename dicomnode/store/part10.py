"""The head of a stored file: preamble and file meta information (PS3.10 7.1)."""

from __future__ import annotations

import struct

from dicomnode.model.uid import IMPLEMENTATION_CLASS_UID

_VERSION = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"


def file_head(SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> bytes:
    """The bytes before a data set; the same for the same UIDs in every version of dicomnode.

    So the digest of a file changes only if the data set does, and a duplicate is recognised by it.
    """
    meta = b"".join(
        (
            _VERSION,
            _element(0x0002, b"UI", SOPClassUID),
            _element(0x0003, b"UI", SOPInstanceUID),
            _element(0x0010, b"UI", TransferSyntaxUID),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", "DICOMNODE"),
        )
    )
    return b"\x00" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta


def _element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b"\x00" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value
