"""The large elements of a multi-frame result, encoded without a data set for each frame (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import pack
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.geometry import Geometry
from dicomnode.results import explicit
from dicomnode.results.multiframe import code_item, decimals, with_elements
from dicomnode.results.references import encoded_names

_LONGEST_VALUE = 0xFFFFFFFE
"""Bytes of one element (PS3.5 7.1.1)."""


class FrameGroups:
    """The Per-Frame Functional Groups Sequence, in Explicit VR Little Endian.

    Frames of one plane differ in their segment alone, and those of one segment in their plane. So each group
    is encoded once a plane or once a segment, and frames are put together from these: of 100 segments on 300
    slices there are 30,000.
    """

    def __init__(self, geometry: Geometry, headers: Sequence[Dataset], derivation: Any) -> None:
        self._placed = geometry.in_patient
        self._sources = _sources(geometry, headers, derivation)
        self._positions = [_position(header) if self._placed else b"" for header in headers]

    def encoded(self, frames: Iterable[tuple[int, int | None]]) -> bytes:
        """The element (5200,9230). A frame is the index of its plane, and the number of its segment where
        frames are of segments."""
        segments: dict[int | None, bytes] = {None: b""}
        items = []
        for plane, segment in frames:
            if segment not in segments:
                number = with_elements(ReferencedSegmentNumber=segment)
                segments[segment] = explicit.encoded(with_elements(SegmentIdentificationSequence=[number]))
            content = self._sources[plane] + self._content(plane, segment)
            items.append(explicit.item(content + self._positions[plane] + segments[segment]))
        return explicit.sequence(0x5200, 0x9230, b"".join(items))

    def _content(self, plane: int, segment: int | None) -> bytes:
        """The Frame Content Sequence: what differs in every frame."""
        values = [] if segment is None else [segment]
        label = b""
        if self._placed:
            values.append(plane + 1)
        elif segment is None:
            values, label = [1], explicit.encoded(with_elements(FrameLabel="Frame"))
        count = len(values)
        indices = pack(f"<HH2sH{count}L", 0x0020, 0x9157, b"UL", 4 * count, *values)
        return explicit.sequence(0x0020, 0x9111, explicit.item(indices + label))


def pixel_element(element: int, vr: str, value: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """(7FE0,`element`) in Explicit VR Little Endian, in pieces to be joined. Raises GateFailed over 4 GiB."""
    padding = b"\0" * (len(value) % 2)
    length = len(value) + len(padding)
    if length > _LONGEST_VALUE:
        raise GateFailed(f"{length} bytes of pixels are more than an instance can hold")
    return pack("<HH2sHL", 0x7FE0, element, vr.encode(), 0, length), value, padding


def encapsulated_element(fragments: bytes) -> tuple[bytes, ...]:
    """Pixel Data of frames that are encapsulated already (PS3.5 A.4), in pieces to be joined."""
    head = pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    return head, fragments, pack("<HHL", 0xFFFE, 0xE0DD, 0)


def in_place(array: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.data.cast("B")


def _sources(geometry: Geometry, headers: Sequence[Dataset], derivation: Any) -> list[bytes]:
    """The Derivation Image Sequence of each plane: its source by UID, and by frame where it is one of several
    (PS3.3 C.7.6.16.2.6)."""
    purpose = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    what_for = explicit.encoded(
        with_elements(SpatialLocationsPreserved="YES", PurposeOfReferenceCodeSequence=purpose)
    )
    how = explicit.encoded(with_elements(DerivationCodeSequence=[code_item(derivation)]))
    encoded = []
    for header, source in zip(headers, geometry.frames, strict=True):
        reference = encoded_names(text_of(header, "SOPClassUID"), source.SOPInstanceUID, source.frame)
        images = explicit.sequence(0x0008, 0x2112, explicit.item(reference + what_for))
        encoded.append(explicit.sequence(0x0008, 0x9124, explicit.item(images + how)))
    return encoded


def _position(header: Dataset) -> bytes:
    """The Plane Position Sequence of a plane (PS3.3 C.7.6.16.2.3)."""
    position = "\\".join(decimals(header, "ImagePositionPatient", 3))
    return explicit.sequence(0x0020, 0x9113, explicit.item(explicit.text(0x0020, 0x0032, "DS", position)))
