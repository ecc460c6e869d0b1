"""Numbers about the segments of a label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicomnode.imaging.findings import SegmentStatistics
from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.labels import boxes_of

ALL = "all"
"""The key of the union of the segments."""

_EMPTY = SegmentStatistics(volume_ml=0.0, mean=0.0, sd=0.0, largest_component=0.0)
_NEIGHBOURS_26 = np.ones((3, 3, 3), np.bool_)


def segment_statistics(
    array: NDArray[np.float32], labels: NDArray[np.uint8], geometry: Geometry, segments: Mapping[str, int]
) -> dict[str, SegmentStatistics]:
    """Statistics of each segment by name, and of their union under "all".

    `array` and `labels` have the shape (slices, rows, columns) of `geometry`; `segments` gives each name's
    value in `labels`. Neighbours share a face, an edge or a corner (26). An empty segment has 0 everywhere.
    """
    if not array.shape == labels.shape == geometry.shape:
        raise ValueError(f"values {array.shape} and labels {labels.shape} on a grid of {geometry.shape}")
    boxes = boxes_of(labels)
    wanted = {name: (label,) for name, label in segments.items()} | {ALL: tuple(segments.values())}
    # The union of a single segment is that segment.
    of = {chosen: _statistics(array, labels, geometry, boxes, chosen) for chosen in set(wanted.values())}
    return {name: of[chosen] for name, chosen in wanted.items()}


def _statistics(
    array: NDArray[np.float32],
    labels: NDArray[np.uint8],
    geometry: Geometry,
    boxes: Sequence[tuple[slice, ...] | None],
    chosen: tuple[int, ...],
) -> SegmentStatistics:
    box = _around([found for label in chosen if label <= len(boxes) and (found := boxes[label - 1])])
    if box is None:
        return _EMPTY
    inside = labels[box]
    wanted = np.zeros(256, np.bool_)
    wanted[list(chosen)] = True
    mask = wanted[inside]
    values = array[box][mask].astype(np.float64)
    return SegmentStatistics(
        volume_ml=values.size * geometry.voxel_ml,
        mean=float(values.mean()),
        sd=float(values.std()),
        largest_component=_largest_component(mask) / values.size,
    )


def _around(boxes: list[tuple[slice, ...]]) -> tuple[slice, ...] | None:
    """The smallest box around all boxes."""
    if not boxes:
        return None
    return tuple(
        slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True)
    )


def _largest_component(mask: NDArray[np.bool_]) -> int:
    """Voxels of the largest connected component."""
    components, count = ndimage.label(mask, _NEIGHBOURS_26)
    return int(np.bincount(components.ravel(), minlength=count + 1)[1:].max())
