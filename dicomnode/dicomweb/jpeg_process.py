"""Which of the JPEG processes encoded an image, and so in which transfer syntax it is (ITU-T T.81 B.2.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from types import MappingProxyType

from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

_BY_FRAME = MappingProxyType({0xC0: JPEGBaseline8Bit, 0xC1: JPEGExtended12Bit, 0xC3: JPEGLossless})
_START_OF_SCAN = 0xDA
_START_OF_IMAGE = b"\xff\xd8"
_SELECTION = slice(-3, -2)
"""Where a scan's header names its predictor: third from its end (B.2.3)."""
_HEAD = struct.Struct(">BBH")


def transfer_syntax_of(beginning: bytes) -> str | None:
    """The transfer syntax of the JPEG image that begins so; None where DICOM has none for it."""
    found = None
    for marker, segment in _segments(beginning):
        found = _BY_FRAME.get(marker, found)
        if marker == _START_OF_SCAN:
            return JPEGLosslessSV1 if found == JPEGLossless and segment[_SELECTION] == b"\x01" else found
    return None


def _segments(image: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each that has come whole."""
    at = len(_START_OF_IMAGE)
    while image[at : at + 1] == b"\xff" and at + _HEAD.size <= len(image):
        _, marker, length = _HEAD.unpack_from(image, at)
        end = at + 2 + length
        if length < 2 or end > len(image):
            return
        yield marker, image[at + _HEAD.size : end]
        at = end
