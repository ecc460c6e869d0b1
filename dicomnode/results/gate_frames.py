"""Where the frames of an encoded result lie, compared with the planes of the source (PS3.3 C.7.6.16)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import unpack, unpack_from
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import numbers_of, text_of
from dicomnode.imaging.geometry import Geometry

_POSITION_MM = 1e-3
"""What viewers allow between a frame's position and its source's."""
_DIGITS = 1e-6
_CENTROID_FRACTION = 0.06
_CENTROID_MM = 0.03
_PER_FRAME = Tag("PerFrameFunctionalGroupsSequence")
_ITEM = (0xFFFE, 0xE000)
_DERIVATION, _POSITION, _SEGMENT = (
    int(Tag(f"{name}Sequence")) for name in ("DerivationImage", "PlanePosition", "SegmentIdentification")
)
_SOURCES, _INSTANCE, _FRAME, _SEGMENT_NUMBER, _PLACE = (
    int(Tag(keyword))
    for keyword in (
        "SourceImageSequence",
        "ReferencedSOPInstanceUID",
        "ReferencedFrameNumber",
        "ReferencedSegmentNumber",
        "ImagePositionPatient",
    )
)
_LONG = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_UNREADABLE_GROUPS = "the per-frame functional groups cannot be read back"

Source = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it was read: the index of its plane in the source, its segment, its position in LPS mm."""

    plane: int
    segment: int | None
    position: tuple[float, ...] | None


class Centroid:
    """The centroid of what was read back, where it was read back, beside where the findings have it.

    `header` has the orientation and the spacing that were read back (PS3.3 C.7.6.2.1.1).
    """

    def __init__(self, geometry: Geometry, orientation: Dataset, measures: Dataset) -> None:
        cosines = np.array(numbers_of(orientation, "ImageOrientationPatient", 6))
        spacing = np.array(numbers_of(measures, "PixelSpacing", 2))
        self._geometry = geometry
        self._down, self._along = cosines[3:] * spacing[0], cosines[:3] * spacing[1]
        self._place, self._index, self._weight = np.zeros(3), np.zeros(3), 0.0

    def add(
        self,
        weights: NDArray[np.float32],
        plane: int,
        position: Sequence[float],
    ) -> None:
        """Take in a plane, shape (rows, columns), none of it negative, whose first pixel is at `position`."""
        in_rows = weights.sum(axis=1, dtype=np.float64)
        in_columns = weights.sum(axis=0, dtype=np.float64)
        row = float(np.arange(in_rows.size) @ in_rows)
        column = float(np.arange(in_columns.size) @ in_columns)
        self.add_moments(float(in_rows.sum()), row, column, plane, position)

    def add_moments(
        self, weight: float, row: float, column: float, plane: int, position: Sequence[float]
    ) -> None:
        """Take in a plane by its sum, and its sums weighted with the indices of rows and of columns."""
        self._place += weight * np.asarray(position) + row * self._down + column * self._along
        self._index += (weight * plane, row, column)
        self._weight += weight

    def require_in_place(self, what: str) -> None:
        """Raises GateFailed where the two are not the same place."""
        if not self._weight:
            return
        expected = self._geometry.lps_of(self._index / self._weight)
        away = float(np.linalg.norm(self._place / self._weight - expected))
        if not away <= max(_CENTROID_MM, _CENTROID_FRACTION * self._geometry.spacing[2]):
            raise GateFailed(f"{what} has its centroid {away:.2f} mm from where it was found")


def compare_source(ds: Dataset, geometry: Geometry, headers: Sequence[Dataset]) -> None:
    """Raises GateFailed unless `ds` has the source's rows and columns and refers to its instances alone, and,
    where the source has a place in the patient, has its frame of reference, orientation and spacing."""
    what, source = text_of(ds, "Modality"), headers[0]
    if (ds.Rows, ds.Columns) != geometry.shape[1:]:
        raise GateFailed(f"the {what} has {ds.Rows} × {ds.Columns} pixels, the source {geometry.shape[1:]}")
    series = [text_of(item, "SeriesInstanceUID") for item in ds.ReferencedSeriesSequence]
    if series != [text_of(source, "SeriesInstanceUID")]:
        raise GateFailed(f"the {what} refers to another series than the source")
    referenced = [
        text_of(item, "ReferencedSOPInstanceUID")
        for item in ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    ]
    if sorted(referenced) != sorted({text_of(header, "SOPInstanceUID") for header in headers}):
        raise GateFailed(f"the {what} refers to other instances than the source's, or twice to one")
    if geometry.in_patient:
        _compare_plane(ds, what, geometry, source)


def read_frames(ds: Dataset, geometry: Geometry, headers: Sequence[Dataset]) -> list[Frame]:
    """The frames of `ds` in their order. Raises GateFailed where one is of no plane of the source, or lies
    elsewhere than it."""
    index_of: dict[Source, int] = {
        (frame.SOPInstanceUID, frame.frame): index for index, frame in enumerate(geometry.frames)
    }
    places = [numbers_of(header, "ImagePositionPatient", 3) for header in headers]
    frames = []
    for source, segment, position in frames_told(ds):
        index = index_of.get(source)
        if index is None:
            raise GateFailed("a frame has a source that is no plane of the findings")
        if geometry.in_patient:
            place = places[index]
            if place is None or position is None or _distance(place, position) > _POSITION_MM:
                raise GateFailed(f"a frame lies elsewhere than its source, slice {index + 1}")
        elif position is not None:
            raise GateFailed("a frame has a position, and its source has none")
        frames.append(Frame(index, segment, position))
    if len(frames) != int(ds.NumberOfFrames):
        raise GateFailed(f"{len(frames)} frames are described, {ds.NumberOfFrames} are there")
    return frames


def centroid_of(ds: Dataset, geometry: Geometry) -> Centroid:
    """To be filled with what was read from the frames of `ds`."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    return Centroid(geometry, shared.PlaneOrientationSequence[0], shared.PixelMeasuresSequence[0])


def require_each_plane_once(frames: Sequence[Frame], geometry: Geometry) -> None:
    """Raises GateFailed."""
    if sorted(frame.plane for frame in frames) != list(range(geometry.shape[0])):
        raise GateFailed("the frames are not one for each plane of the source")


def far(ds: Dataset, source: Dataset, keyword: str, count: int, tolerance: float = _DIGITS) -> bool:
    """Whether an attribute's numbers differ from the source's, or are missing."""
    ours, theirs = numbers_of(ds, keyword, count), numbers_of(source, keyword, count)
    return ours is None or theirs is None or _distance(ours, theirs) > tolerance


def _compare_plane(ds: Dataset, what: str, geometry: Geometry, source: Dataset) -> None:
    shared = ds.SharedFunctionalGroupsSequence[0]
    if far(shared.PlaneOrientationSequence[0], source, "ImageOrientationPatient", 6):
        raise GateFailed(f"the {what} has another orientation than the source")
    if far(shared.PixelMeasuresSequence[0], source, "PixelSpacing", 2):
        raise GateFailed(f"the {what} has another pixel spacing than the source")
    if text_of(ds, "FrameOfReferenceUID") != geometry.FrameOfReferenceUID:
        raise GateFailed(f"the {what} is in another frame of reference than the source")


def _distance(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return max(abs(our - their) for our, their in zip(ours, theirs, strict=True))


def frames_told(ds: Dataset) -> Iterator[tuple[Source, int | None, tuple[float, ...] | None]]:
    """What each frame says of itself. Equal bytes say the same: each group is read once, however many frames
    have it, so that 30,000 frames do not become as many data sets."""
    known: dict[bytes, Any] = {}
    shared = ds.SharedFunctionalGroupsSequence[0]
    in_common = (
        int(shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        if "SegmentIdentificationSequence" in shared
        else None
    )
    for groups in _frame_groups(ds):
        told: dict[int, Any] = {_SEGMENT: in_common}
        for tag, encoded in groups.items():
            if tag not in _MEANINGS:
                continue
            if encoded not in known:
                known[encoded] = _MEANINGS[tag](_elements(_items(encoded)[0]))
            told[tag] = known[encoded]
        if _DERIVATION not in told:
            raise GateFailed("a frame has no source")
        yield told[_DERIVATION], told[_SEGMENT], told.get(_POSITION)


def _source(derivation: Mapping[int, bytes]) -> Source:
    sources = _items(derivation[_SOURCES])
    if len(sources) != 1:
        raise GateFailed(f"a frame has {len(sources)} sources")
    source = _elements(sources[0])
    return _text(source[_INSTANCE]), int(_text(source[_FRAME])) if _FRAME in source else None


def _segment(identification: Mapping[int, bytes]) -> int:
    (number,) = unpack("<H", identification[_SEGMENT_NUMBER])
    return int(number)


def _position(plane: Mapping[int, bytes]) -> tuple[float, ...] | None:
    numbers = tuple(map(float, _text(plane[_PLACE]).split("\\")))
    return numbers if len(numbers) == 3 and all(map(math.isfinite, numbers)) else None


_MEANINGS: Mapping[int, Callable[[Mapping[int, bytes]], Any]] = {
    _DERIVATION: _source,
    _SEGMENT: _segment,
    _POSITION: _position,
}
"""What each functional group macro says, by its tag."""


def _frame_groups(ds: Dataset) -> Iterator[dict[int, bytes]]:
    """The functional groups of each frame by their tags, as they are encoded."""
    sequence: Any = ds.get_item(_PER_FRAME)
    if not isinstance(sequence, RawDataElement) or not isinstance(sequence.value, bytes):
        raise GateFailed("the per-frame functional groups were not read as they are encoded")
    yield from map(_elements, _items(sequence.value))


def _items(encoded: bytes) -> list[bytes]:
    """The items of a sequence, each of a defined length (PS3.5 7.5)."""
    items, at = [], 0
    while at < len(encoded):
        group, element, length = unpack_from("<HHL", encoded, at)
        at += 8 + length
        if (group, element) != _ITEM or at > len(encoded):
            raise GateFailed(_UNREADABLE_GROUPS)
        items.append(encoded[at - length : at])
    return items


def _elements(encoded: bytes) -> dict[int, bytes]:
    """The values of an item by their tags, in Explicit VR Little Endian (PS3.5 7.1.2)."""
    values, at = {}, 0
    while at < len(encoded):
        group, element, vr, length = unpack_from("<HH2sH", encoded, at)
        at += 8
        if vr in _LONG:
            (length,) = unpack_from("<L", encoded, at)
            at += 4
        at += length
        if at > len(encoded):
            raise GateFailed(_UNREADABLE_GROUPS)
        values[group << 16 | element] = encoded[at - length : at]
    return values


def _text(value: bytes) -> str:
    return value.decode("ascii").strip(" \0")
