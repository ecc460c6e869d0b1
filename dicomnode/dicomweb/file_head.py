"""What stands before the data set of a DICOM file that comes in block by block (PS3.10 7.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dicomnode.errors import MissingUID, NotDicom

MAXIMUM_HEAD = 1_048_576
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_NAMES = {0x0002: "SOPClassUID", 0x0003: "SOPInstanceUID", 0x0010: "TransferSyntaxUID"}


@dataclass(frozen=True, slots=True)
class FileHead:
    """The UIDs of the file meta information, and where the data set begins."""

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    length: int


def parse_file_head(data: bytes | memoryview) -> FileHead | None:
    """The head at the beginning of `data`; None where more of it has to come first.

    Raises NotDicom where there is none, MissingUID where it names no instance.
    """
    if data[128:132] not in (b"DICM", b"DICM"[: max(0, len(data) - 128)]):
        raise NotDicom("there is no DICM prefix")
    found: dict[str, str] = {}
    at = 132
    while len(data) - at >= 8:
        group, number, vr, size = struct.unpack_from("<HH2sH", data, at)
        if group != 0x0002:
            return _head(found, at)
        at += 8
        if vr in _LONG_VRS:
            if len(data) - at < 4:
                break
            (size,) = struct.unpack_from("<I", data, at)
            at += 4
        if at + size > MAXIMUM_HEAD:
            raise NotDicom("the file meta information has no end")
        if number in _NAMES:
            found[_NAMES[number]] = bytes(data[at : at + size]).rstrip(b"\x00 ").decode("latin-1")
        at += size
    return None


def _head(found: dict[str, str], length: int) -> FileHead:
    for keyword in _NAMES.values():
        if not found.get(keyword):
            raise MissingUID(keyword)
    return FileHead(**found, length=length)
