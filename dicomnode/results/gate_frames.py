"""Where the frames of an encoded result lie, compared with the planes of the source (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from struct import unpack_from
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import Tag

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import number_of, numbers_of, text_of
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
_GROUPS = frozenset((_DERIVATION, _POSITION, _SEGMENT))

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
    in_common = _meaning(shared) if "SegmentIdentificationSequence" in shared else None
    for groups in _frame_groups(ds):
        told: dict[int, Any] = {_SEGMENT: in_common}
        for tag, encoded in groups:
            if tag not in _GROUPS:
                continue
            if encoded not in known:
                known[encoded] = _meaning(
                    read_dataset(BytesIO(encoded), is_implicit_VR=False, is_little_endian=True)
                )
            told[tag] = known[encoded]
        if _DERIVATION not in told:
            raise GateFailed("a frame has no source")
        yield told[_DERIVATION], told[_SEGMENT], told.get(_POSITION)


def _meaning(group: Dataset) -> Any:
    """Of one functional group macro: its source, its segment or its position."""
    if "DerivationImageSequence" in group:
        sources = group.DerivationImageSequence[0].SourceImageSequence
        if len(sources) != 1:
            raise GateFailed(f"a frame has {len(sources)} sources")
        frame = number_of(sources[0], "ReferencedFrameNumber")
        return text_of(sources[0], "ReferencedSOPInstanceUID"), None if frame is None else int(frame)
    if "SegmentIdentificationSequence" in group:
        return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    return numbers_of(group.PlanePositionSequence[0], "ImagePositionPatient", 3)


def _frame_groups(ds: Dataset) -> Iterator[list[tuple[int, bytes]]]:
    """The functional groups of each frame, each with its tag and as it is encoded (PS3.5 7.5)."""
    sequence: Any = ds.get_item(_PER_FRAME)
    if not isinstance(sequence, RawDataElement) or not isinstance(sequence.value, bytes):
        raise GateFailed("the per-frame functional groups were not read as they are encoded")
    encoded, at = sequence.value, 0
    while at < len(encoded):
        group, element, length = unpack_from("<HHL", encoded, at)
        end = at + 8 + length
        if (group, element) != _ITEM or end > len(encoded):
            raise GateFailed("the per-frame functional groups cannot be read back")
        yield list(_elements(encoded, at + 8, end))
        at = end


def _elements(encoded: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while at < end:
        group, element, vr, length = unpack_from("<HH2s2xL", encoded, at)
        after = at + 12 + length
        if vr != b"SQ" or after > end:
            raise GateFailed("the per-frame functional groups cannot be read back")
        yield group << 16 | element, encoded[at:after]
        at = after
