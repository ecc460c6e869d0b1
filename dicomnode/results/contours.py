"""The outlines of masks, half way between the centres of pixels inside and outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import contourpy
import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.labels import Box, boxes_of, voxel_counts

Ring = NDArray[np.float64]
"""Shape (points, 2): indices (row, column), whole at pixels' centres; the last point is not the first."""

MOST_POINTS = 8000
"""Of one graphic: its data is at most 65,534 bytes long (PS3.5 7.1.2)."""


@dataclass(frozen=True, slots=True)
class Region:
    """One connected part of a mask in one plane, and the holes in it."""

    plane: int
    outer: Ring
    holes: tuple[Ring, ...]


class Masks:
    """The masks of a label map (slices, rows, columns): where each lies, and how many voxels it has.

    The map is looked through once, not once a label: it may have a hundred.
    """

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        self._labels = labels
        self._boxes = boxes_of(labels)
        self._counts = voxel_counts(labels)

    def voxels(self, label: int) -> int:
        """How many there are of this label."""
        return int(self._counts[label])

    def regions(self, label: int) -> Iterator[Region]:
        """The parts that have this label, plane by plane.

        The pixels with their centres inside are those of the mask, none more and none less.
        """
        if (box := self._boxes[label - 1]) is not None:
            for plane in range(box[0].start, box[0].stop):
                yield from self._in_plane(label, plane, box)

    def fullest_plane(self, label: int) -> int | None:
        """The plane with most pixels of this label, the first of equals; None where there is none."""
        if (box := self._boxes[label - 1]) is None:
            return None
        counts = np.count_nonzero(self._labels[box] == label, axis=(1, 2))
        return int(box[0].start + counts.argmax())

    def largest_region(self, label: int) -> Region | None:
        """The region of the greatest area in the fullest plane; None where there is none."""
        plane, box = self.fullest_plane(label), self._boxes[label - 1]
        if plane is None or box is None:
            return None
        return max(self._in_plane(label, plane, box), key=lambda each: abs(area_of(each.outer)))

    def _in_plane(self, label: int, plane: int, box: Box) -> Iterator[Region]:
        _, rows, columns = box
        offset = (rows.start, columns.start)
        for outer, holes in _rings(self._labels[plane, rows, columns] == label):
            yield Region(plane, outer + offset, tuple(hole + offset for hole in holes))


def area_of(ring: NDArray[np.float64]) -> float:
    """The signed area inside a ring, in squares of its unit."""
    following = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum() / 2)


def closed(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ring with its first point at its end again."""
    return np.concatenate([ring, ring[:1]])


def keyholed(region: Region) -> Ring:
    """One ring around the region that goes to each hole and back on the same way (PS3.3 C.8.8.6.3)."""
    ring = region.outer
    for hole in sorted(region.holes, key=lambda each: float(each[:, 0].min())):
        distances = np.linalg.norm(ring[:, None] - hole[None], axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        around = closed(np.roll(hole, -int(there), axis=0))
        ring = np.concatenate([ring[: here + 1], around, ring[here:]])
    return ring


def _rings(inside: NDArray[np.bool_]) -> Iterator[tuple[Ring, list[Ring]]]:
    padded = np.pad(inside, 1).astype(np.float64)
    generator = contourpy.contour_generator(z=padded, fill_type=contourpy.FillType.OuterOffset)
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        if points is None or offsets is None:
            continue
        rings = [_corners(points[start : stop - 1, ::-1] - 1.0) for start, stop in pairwise(offsets)]
        yield rings[0], rings[1:]


def _corners(ring: Ring) -> Ring:
    """The ring without points on the straight way between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    kept: Ring = ring[np.abs(turns) > 1e-9]
    return kept
