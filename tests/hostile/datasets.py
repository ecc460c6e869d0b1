"""Data sets by hand: right ones, and each way of being wrong."""

from __future__ import annotations

import struct
import zlib

from pydicom.uid import CTImageStorage, generate_uid

LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SEQUENCE = 0x00081140
EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.5",
)


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element in Explicit VR Little Endian; `length` is what it claims."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<HL", 0, size) if vr in LONG else struct.pack("<H", size)) + value


def bare(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    """An item, a delimiter, or an element in Implicit VR Little Endian."""
    size = len(value) if length is None else length
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, size) + value


def text(tag: int, vr: bytes, value: str) -> bytes:
    padding = b"\0" if vr == b"UI" else b" "
    return element(tag, vr, value.encode() + padding * (len(value) % 2))


def us(tag: int, value: int) -> bytes:
    return element(tag, b"US", struct.pack("<H", value))


class DataSet(dict[int, bytes]):
    """A small CT image; what is set replaces or adds an element, encoded."""

    def __init__(self, elements: dict[int, bytes] | None = None) -> None:
        self.SOPInstanceUID = str(generate_uid(prefix=None))
        self.StudyInstanceUID = uid = str(generate_uid(prefix=None))
        self.SeriesInstanceUID = f"{uid[:60]}.1"
        super().__init__(
            {
                0x00080016: text(0x00080016, b"UI", CTImageStorage),
                0x00080018: text(0x00080018, b"UI", self.SOPInstanceUID),
                0x00080060: text(0x00080060, b"CS", "CT"),
                0x00100010: text(0x00100010, b"PN", "Doe^Jane"),
                0x00100020: text(0x00100020, b"LO", "P1"),
                0x0020000D: text(0x0020000D, b"UI", uid),
                0x0020000E: text(0x0020000E, b"UI", self.SeriesInstanceUID),
                0x00280002: us(0x00280002, 1),
                0x00280010: us(0x00280010, 8),
                0x00280011: us(0x00280011, 8),
                0x00280100: us(0x00280100, 16),
                0x7FE00010: element(0x7FE00010, b"OW", bytes(range(128))),
            }
        )
        self.update(elements or {})

    def encoded(self) -> bytes:
        return b"".join(value for _, value in sorted(self.items()))


def nested(depth: int) -> bytes:
    """Sequences in sequences, of undefined length."""
    opening = element(SEQUENCE, b"SQ", b"", UNDEFINED) + bare(ITEM, length=UNDEFINED)
    return opening * depth + (bare(ITEM_END) + bare(SEQUENCE_END)) * depth


def sequence(content: bytes, tag: int = SEQUENCE) -> bytes:
    """A sequence of undefined length with whatever stands in it."""
    return element(tag, b"SQ", content, UNDEFINED)


def fragments(content: bytes) -> bytes:
    """Encapsulated pixel data with whatever stands in them."""
    return element(0x7FE00010, b"OB", content, UNDEFINED)


def deflated(data: bytes, megabytes_of_zeros: int = 0) -> bytes:
    """Data deflated (PS3.5 A.5), and zeros after them that cost next to nothing."""
    beginning, zeros, end = (zlib.compressobj(wbits=-zlib.MAX_WBITS) for _ in range(3))
    head = beginning.compress(data) + beginning.flush(zlib.Z_FULL_FLUSH)
    block = zeros.compress(bytes(1_000_000)) + zeros.flush(zlib.Z_FULL_FLUSH)
    return head + block * megabytes_of_zeros + end.flush()


def part10(data: bytes, SOPInstanceUID: str, syntax: str = EXPLICIT, preamble: bytes = bytes(128)) -> bytes:
    """A data set as a file (PS3.10 7.1)."""
    meta = (
        text(0x00020002, b"UI", CTImageStorage)
        + text(0x00020003, b"UI", SOPInstanceUID)
        + text(0x00020010, b"UI", syntax)
    )
    return preamble + b"DICM" + element(0x00020000, b"UL", struct.pack("<L", len(meta))) + meta + data
