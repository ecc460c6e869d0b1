"""The masks of an encoded Segmentation against the label map (PS3.3 C.8.20, C.7.6.16.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import number_of, text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.manifest import Manifest, Segment
from dicomnode.results.gate_frames import Frame, centroid_of, compare_source, read_frames


def compare_masks(ds: Dataset, findings: Findings, headers: Sequence[Dataset], manifest: Manifest) -> None:
    """Raises GateFailed unless `ds`, BINARY or LABELMAP, says of each voxel what the label map says of it.

    Compared are the meaning of each segment, each frame bit for bit on its plane of the source, by UID and
    by position, and the centroid of each segment in LPS mm.
    """
    try:
        kind = text_of(ds, "SegmentationType")
        if kind not in _PLANES:
            raise GateFailed("the SEG is neither BINARY nor LABELMAP")
        compare_segments(_foreground(ds, kind), manifest.segment)
        compare_source(ds, findings.geometry, headers)
        frames = read_frames(ds, findings.geometry, headers)
        centroids = _Centroids(ds, findings, frames, manifest) if findings.geometry.in_patient else None
        labels = [segment.label for segment in manifest.segment]
        for plane, seen in _PLANES[kind](ds, frames, labels, findings.labels.shape):
            _require_equal(seen, findings.labels[plane], plane, manifest)
            if centroids is not None:
                centroids.add(seen, plane)
        if centroids is not None:
            centroids.require_in_place()
    except UNREADABLE as error:
        raise GateFailed(f"the SEG cannot be read back ({type(error).__name__})") from error


def compare_segments(items: Sequence[Dataset], segments: Sequence[Segment]) -> None:
    """Raises GateFailed unless the Segment Sequence declares `segments`, in this order."""
    if len(items) != len(segments):
        raise GateFailed(f"{len(items)} segments in the SEG, {len(segments)} in the manifest")
    for number, (item, segment) in enumerate(zip(items, segments, strict=True), 1):
        meant = item.SegmentedPropertyTypeCodeSequence[0]
        said = (int(item.SegmentNumber), str(item.SegmentLabel), str(item.TrackingID))
        if said != (number, segment.title, segment.name):
            raise GateFailed(f"segment {number} of the SEG is not {segment.name}")
        if (meant.get("CodeValue"), meant.CodingSchemeDesignator) != (
            segment.type.value,
            segment.type.scheme,
        ):
            raise GateFailed(f"segment {number} of the SEG is coded as something other than {segment.name}")


def _foreground(ds: Dataset, kind: str) -> list[Dataset]:
    """The items of the Segment Sequence but for the background's, which a LABELMAP describes too."""
    items = list(ds.SegmentSequence)
    return [item for item in items if int(item.SegmentNumber)] if kind == "LABELMAP" else items


def _planes_of_bits(
    ds: Dataset, frames: Sequence[Frame], labels: Sequence[int], shape: tuple[int, ...]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Each plane's labels, as the bits make them. Between frames there is no gap (PS3.5 8.1.1)."""
    packed, pixels = np.frombuffer(ds.PixelData, np.uint8), shape[1] * shape[2]
    if number_of(ds, "BitsAllocated") != 1 or 8 * packed.size < pixels * len(frames):
        raise GateFailed(f"the SEG holds no bits for {len(frames)} frames")
    first_bits: list[dict[int, int]] = [{} for _ in range(shape[0])]
    for number, frame in enumerate(frames):
        if frame.segment is None or not 1 <= frame.segment <= len(labels):
            raise GateFailed("a frame of the SEG is of no segment")
        if first_bits[frame.plane].setdefault(frame.segment, number * pixels) != number * pixels:
            raise GateFailed(f"segment {frame.segment} of the SEG has two frames on slice {frame.plane + 1}")
    for plane, segments in enumerate(first_bits):
        seen = np.zeros(pixels, np.uint8)
        for segment, first in segments.items():
            inside = _set_bits(packed, first, pixels)
            if seen[inside].any():
                raise GateFailed(f"two segments of the SEG overlap on slice {plane + 1}")
            seen[inside] = labels[segment - 1]
        yield plane, seen.reshape(shape[1:])


def _set_bits(packed: NDArray[np.uint8], first: int, count: int) -> NDArray[np.intp]:
    """Which of the `count` bits from `first` on are set; the least significant bit of a byte is the first."""
    byte, shift = divmod(first, 8)
    chunk = packed[byte : -(-(first + count) // 8)]
    filled = np.flatnonzero(chunk)
    if not filled.size:
        return filled
    start, end = int(filled[0]), int(filled[-1]) + 1
    indices = np.flatnonzero(np.unpackbits(chunk[start:end], bitorder="little")) + (8 * start - shift)
    return indices[(indices >= 0) & (indices < count)] if shift or count % 8 else indices


def _planes_of_pixels(
    ds: Dataset, frames: Sequence[Frame], labels: Sequence[int], shape: tuple[int, ...]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Each plane's labels, as segment numbers make them, decompressed by pydicom."""
    label_of = np.zeros(256, np.uint8)
    label_of[1 : len(labels) + 1] = labels
    left = set(range(shape[0]))
    for frame, numbers in zip(frames, iter_pixels(ds), strict=True):
        if frame.plane not in left:
            raise GateFailed(f"the SEG has two frames on slice {frame.plane + 1}")
        if numbers.dtype != np.uint8 or int(numbers.max()) > len(labels):
            raise GateFailed("the SEG holds numbers that are no segment's")
        left.remove(frame.plane)
        yield frame.plane, label_of[numbers]
    for plane in left:
        yield plane, np.zeros(shape[1:], np.uint8)


_PLANES: Mapping[str, Callable[..., Iterator[tuple[int, NDArray[np.uint8]]]]] = {
    "BINARY": _planes_of_bits,
    "LABELMAP": _planes_of_pixels,
}


def _require_equal(
    seen: NDArray[np.uint8], labels: NDArray[np.uint8], plane: int, manifest: Manifest
) -> None:
    if np.array_equal(seen, labels):
        return
    differs = seen != labels
    wrong = {int(label) for label in np.unique([labels[differs], seen[differs]])}
    names = [segment.name for segment in manifest.segment if segment.label in wrong]
    raise GateFailed(f"{' and '.join(names)} of the SEG differ from the mask on slice {plane + 1}")


class _Centroids:
    """Of each segment: where its voxels were read back, and where the findings have them."""

    def __init__(self, ds: Dataset, findings: Findings, frames: Sequence[Frame], manifest: Manifest) -> None:
        self._segments = manifest.segment
        self._centroids = [centroid_of(ds, findings.geometry) for _ in manifest.segment]
        self._positions = {(frame.plane, frame.segment): frame.position for frame in frames}

    def add(self, labels: NDArray[np.uint8], plane: int) -> None:
        """Take in a plane that was read back."""
        weights, rows, columns = _moments(labels)
        for number, (segment, centroid) in enumerate(zip(self._segments, self._centroids, strict=True), 1):
            position = self._positions.get((plane, number)) or self._positions.get((plane, None))
            label = segment.label
            if position is not None and weights[label]:
                centroid.add_moments(weights[label], rows[label], columns[label], plane, position)

    def require_in_place(self) -> None:
        """Raises GateFailed."""
        for number, centroid in enumerate(self._centroids, 1):
            centroid.require_in_place(f"segment {number} of the SEG")


def _moments(labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """By label: how many pixels of a plane have it, and the sums of their rows and of their columns."""
    flat = labels.reshape(-1)
    filled = np.flatnonzero(flat)
    rows, columns = np.divmod(filled, labels.shape[1])
    found = flat[filled]
    return np.stack([np.bincount(found, weights, minlength=256) for weights in (None, rows, columns)])
