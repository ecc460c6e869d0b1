"""The masks of an encoded Segmentation against the label map (PS3.3 C.8.20, C.7.6.16.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import number_of, numbers_of, text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.manifest import Manifest

_POSITION_MM = 1e-3
"""What viewers allow between a frame's position and its source's."""
_CENTROID_FRACTION = 0.06
_CENTROID_MM = 0.03


@dataclass(frozen=True, slots=True)
class _Frame:
    segment: int
    source: str
    position: NDArray[np.float64]


def compare_masks(ds: Dataset, findings: Findings, headers: Sequence[Dataset], manifest: Manifest) -> None:
    """Raises GateFailed unless each frame of `ds` is the mask of its segment on its source instance."""
    try:
        _compare_segments(ds, manifest)
        _compare_plane(ds, headers)
        _compare_frames(ds, findings, headers, manifest)
    except UNREADABLE as error:
        raise GateFailed(f"the SEG cannot be read back ({type(error).__name__})") from error


def _compare_segments(ds: Dataset, manifest: Manifest) -> None:
    if len(ds.SegmentSequence) != len(manifest.segment):
        raise GateFailed(
            f"{len(ds.SegmentSequence)} segments in the SEG, {len(manifest.segment)} in the manifest"
        )
    for number, (item, segment) in enumerate(zip(ds.SegmentSequence, manifest.segment, strict=True), 1):
        meant = item.SegmentedPropertyTypeCodeSequence[0]
        said = (int(item.SegmentNumber), str(item.SegmentLabel), str(item.TrackingID))
        if said != (number, segment.title, segment.name):
            raise GateFailed(f"segment {number} of the SEG is not {segment.name}")
        if (meant.get("CodeValue"), meant.CodingSchemeDesignator) != (
            segment.type.value,
            segment.type.scheme,
        ):
            raise GateFailed(f"segment {number} of the SEG is coded as something other than {segment.name}")


def _compare_plane(ds: Dataset, headers: Sequence[Dataset]) -> None:
    """One plane and one grid for all frames, the source's."""
    source, shared = headers[0], ds.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    if _far(orientation, source, "ImageOrientationPatient", 6, 1e-6):
        raise GateFailed("the SEG has another orientation than the source")
    if _far(measures, source, "PixelSpacing", 2, 1e-6):
        raise GateFailed("the SEG has another pixel spacing than the source")
    if (ds.Rows, ds.Columns) != (source.Rows, source.Columns):
        raise GateFailed(
            f"the SEG has {ds.Rows} × {ds.Columns} pixels, the source {source.Rows} × {source.Columns}"
        )
    if text_of(ds, "FrameOfReferenceUID") != text_of(source, "FrameOfReferenceUID"):
        raise GateFailed("the SEG is in another frame of reference than the source")
    series = [text_of(item, "SeriesInstanceUID") for item in ds.ReferencedSeriesSequence]
    if series != [text_of(source, "SeriesInstanceUID")]:
        raise GateFailed("the SEG refers to another series than the source")


def _far(ds: Dataset, source: Dataset, keyword: str, count: int, tolerance: float) -> bool:
    ours, theirs = numbers_of(ds, keyword, count), numbers_of(source, keyword, count)
    return ours is None or theirs is None or bool(np.abs(np.subtract(ours, theirs)).max() > tolerance)


def _compare_frames(ds: Dataset, findings: Findings, headers: Sequence[Dataset], manifest: Manifest) -> None:
    index_of = {text_of(header, "SOPInstanceUID"): index for index, header in enumerate(headers)}
    positions = [np.array(numbers_of(header, "ImagePositionPatient", 3)) for header in headers]
    seen: set[tuple[int, int]] = set()
    centroids = [_Centroid(headers[0]) for _ in manifest.segment]
    for frame, mask in zip(_frames(ds), _masks(ds), strict=True):
        if frame.source not in index_of:
            raise GateFailed("a frame of the SEG has a source that is not in the series")
        index = index_of[frame.source]
        if np.abs(frame.position - positions[index]).max() > _POSITION_MM:
            raise GateFailed(f"a frame of the SEG lies elsewhere than its source, slice {index + 1}")
        if (frame.segment, index) in seen:
            raise GateFailed(f"segment {frame.segment} of the SEG has two frames on slice {index + 1}")
        seen.add((frame.segment, index))
        label = manifest.segment[frame.segment - 1].label
        if not np.array_equal(mask, findings.labels[index] == label):
            raise GateFailed(f"segment {frame.segment} of the SEG differs from the mask on slice {index + 1}")
        centroids[frame.segment - 1].add(mask, frame.position)
    for number, (segment, centroid) in enumerate(zip(manifest.segment, centroids, strict=True), 1):
        _compare_whole(findings, number, segment.label, centroid)


def _compare_whole(findings: Findings, number: int, label: int, centroid: _Centroid) -> None:
    """What no frame shows: voxels on slices without a frame, and the grid that the mask was computed on."""
    mask = findings.labels == label
    count = int(np.count_nonzero(mask))
    if centroid.count != count:
        raise GateFailed(f"segment {number} of the SEG has {centroid.count} voxels, the mask {count}")
    if not count:
        return
    sums = [np.arange(length) @ np.count_nonzero(mask, axis=axes) for length, axes in _axes(mask.shape)]
    expected = findings.geometry.lps_of(np.array(sums, np.float64) / count)
    away = float(np.linalg.norm(centroid.lps() - expected))
    if away > max(_CENTROID_MM, _CENTROID_FRACTION * findings.geometry.spacing[2]):
        raise GateFailed(f"segment {number} of the SEG has its centroid {away:.2f} mm from the mask's")


def _axes(shape: tuple[int, ...]) -> list[tuple[int, tuple[int, int]]]:
    return [(shape[0], (1, 2)), (shape[1], (0, 2)), (shape[2], (0, 1))]


class _Centroid:
    """The mean LPS position of the voxels that were read back, frame by frame (PS3.3 C.7.6.2.1.1)."""

    def __init__(self, header: Dataset) -> None:
        cosines = np.array(numbers_of(header, "ImageOrientationPatient", 6))
        spacing = np.array(numbers_of(header, "PixelSpacing", 2))
        self._down, self._along = cosines[3:] * spacing[0], cosines[:3] * spacing[1]
        self._sum = np.zeros(3)
        self.count = 0

    def add(self, mask: NDArray[np.bool_], position: NDArray[np.float64]) -> None:
        """Take in one frame, shape (rows, columns), whose first voxel is at `position`."""
        in_rows = np.count_nonzero(mask, axis=1)
        count = int(in_rows.sum())
        if count:
            in_columns = np.count_nonzero(mask, axis=0)
            down = self._down * float(np.arange(in_rows.size) @ in_rows)
            along = self._along * float(np.arange(in_columns.size) @ in_columns)
            self._sum += count * position + down + along
            self.count += count

    def lps(self) -> NDArray[np.float64]:
        """The centroid in LPS mm; there must be a voxel."""
        return self._sum / self.count


def _frames(ds: Dataset) -> Iterator[_Frame]:
    """What each frame says of itself; what all frames have in common stands once, in the shared groups."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    for item in ds.PerFrameFunctionalGroupsSequence:
        derivation = item.DerivationImageSequence[0].SourceImageSequence
        if len(derivation) != 1:
            raise GateFailed(f"a frame of the SEG has {len(derivation)} sources")
        yield _Frame(
            segment=int(_group(item, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber),
            source=text_of(derivation[0], "ReferencedSOPInstanceUID"),
            position=np.array(item.PlanePositionSequence[0].ImagePositionPatient, np.float64),
        )


def _group(item: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """A functional group macro's item (PS3.3 C.7.6.16)."""
    group: Dataset = (item if keyword in item else shared)[keyword][0]
    return group


def _masks(ds: Dataset) -> Iterator[NDArray[np.bool_]]:
    """Each frame, shape (rows, columns). Frames are packed without a gap between them (PS3.5 8.1.1)."""
    if (number_of(ds, "BitsAllocated"), text_of(ds, "SegmentationType")) != (1.0, "BINARY"):
        raise GateFailed("the SEG is not BINARY")
    packed = np.frombuffer(ds.PixelData, np.uint8)
    pixels = int(ds.Rows) * int(ds.Columns)
    if 8 * packed.size < pixels * int(ds.NumberOfFrames):
        raise GateFailed(f"the SEG is too short for {ds.NumberOfFrames} frames")
    for frame in range(int(ds.NumberOfFrames)):
        first, shift = divmod(frame * pixels, 8)
        last = -(-(frame + 1) * pixels // 8)
        bits = np.unpackbits(packed[first:last], bitorder="little")[shift : shift + pixels]
        yield bits.view(np.bool_).reshape(int(ds.Rows), int(ds.Columns))
