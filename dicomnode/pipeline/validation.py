"""What a child says it found, checked against what the parent knows by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from shapely import Polygon, make_valid

from dicomnode.errors import GateFailed
from dicomnode.imaging.findings import Findings, MarkFound, SegmentStatistics
from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.labels import voxel_counts
from dicomnode.imaging.preview import Preview, planes_through, preview_index
from dicomnode.imaging.statistics import ALL
from dicomnode.model.manifest import Manifest, Map
from dicomnode.pipeline.contract import LABELS, MOST_POINTS, PREVIEW, Done, Mark, map_file

_NPY_HEADER = 4096
_VOLUME_TOLERANCE_ML = 1e-6
_HALF_A_VOXEL = 0.5 + 1e-6
_IN_A_SLICE = 1e-3
"""How far a polygon's points may lie from the middle of their slice, in slices."""
_SAME_AREA = 1e-6
"""A polygon that crosses itself encloses more than its points say, in parts of that."""
_FEWEST_POINTS = {"point": 1, "polyline": 2, "polygon": 3}


def checked_findings(done: Done, folder: Path, geometry: Geometry, manifest: Manifest) -> Findings:
    """The findings, with the label map and the maps from `folder` on the parent's own `geometry`.

    Raises GateFailed.
    """
    labels = _read_array(folder / LABELS, geometry.shape, np.uint8, "the label map")
    if set(done.values) != {value.name for value in manifest.value}:
        raise GateFailed("values are not those of the manifest")
    marks = _checked_marks(done.marks, geometry, manifest)
    return Findings(
        labels,
        geometry,
        _checked_statistics(done, labels, geometry, manifest),
        dict(done.values),
        {each.name: _checked_map(each, folder, geometry) for each in manifest.map},
        marks,
        _checked_answers(done, manifest),
        _checked_preview(folder, labels, marks),
    )


def _checked_preview(folder: Path, labels: NDArray[np.uint8], marks: tuple[MarkFound, ...]) -> Preview:
    index = preview_index(labels, [mark.points for mark in marks])
    expected = planes_through(labels, index)
    planes = tuple(
        _read_array(folder / name, plane.shape, np.float32, "a plane of the preview")
        for name, plane in zip(PREVIEW, expected, strict=True)
    )
    if not all(np.isfinite(plane).all() for plane in planes):
        raise GateFailed("a plane of the preview holds values that are not finite")
    return Preview(index, (planes[0], planes[1], planes[2]))


def _checked_statistics(
    done: Done, labels: NDArray[np.uint8], geometry: Geometry, manifest: Manifest
) -> dict[str, SegmentStatistics]:
    by_name = {segment.name: segment.label for segment in manifest.segment}
    counts = voxel_counts(labels)
    if unknown := [int(label) for label in np.flatnonzero(counts) if label and label not in by_name.values()]:
        raise GateFailed(f"{len(unknown)} labels are not in the manifest, the first is {unknown[0]}")
    if set(done.statistics) != {*by_name, ALL}:
        raise GateFailed("statistics are not those of the manifest's segments")
    statistics = {
        name: SegmentStatistics(**numbers.model_dump()) for name, numbers in done.statistics.items()
    }
    for name, label in by_name.items():
        volume_ml = int(counts[label]) * geometry.voxel_ml
        if abs(statistics[name].volume_ml - volume_ml) > _VOLUME_TOLERANCE_ML * max(1.0, volume_ml):
            raise GateFailed(f"the volume of {name} is not that of its voxels")
    return statistics


def _checked_map(of: Map, folder: Path, geometry: Geometry) -> NDArray[np.float32]:
    values = _read_array(folder / map_file(of.name), geometry.shape, np.float32, f"the map {of.name}")
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise GateFailed(f"the map {of.name} holds values that are not finite")
    if of.use == "fractional" and not 0 <= lowest <= highest <= 1:
        raise GateFailed(f"the map {of.name} holds values that are no probabilities")
    return values


def _checked_marks(marks: tuple[Mark, ...], geometry: Geometry, manifest: Manifest) -> tuple[MarkFound, ...]:
    if sum(len(mark.points) for mark in marks) > MOST_POINTS:
        raise GateFailed(f"the marks have more than {MOST_POINTS} points")
    shapes = {mark.name: mark.shape for mark in manifest.mark}
    found = []
    for number, mark in enumerate(marks, 1):
        if mark.name not in shapes:
            raise GateFailed(f"mark {number} is of no kind that the manifest declares")
        points = np.array(mark.points, np.float64)
        outside = (points < -_HALF_A_VOXEL) | (points > np.array(geometry.shape) - 1 + _HALF_A_VOXEL)
        if outside.any():
            raise GateFailed(f"mark {number} ({mark.name}) lies outside the grid of the input")
        _require_shape(shapes[mark.name], points, f"mark {number} ({mark.name})")
        found.append(MarkFound(mark.name, points, mark.probability))
    return tuple(found)


def _require_shape(shape: str, points: NDArray[np.float64], what: str) -> None:
    fewest = _FEWEST_POINTS[shape]
    if len(points) < fewest or (shape == "point" and len(points) > 1):
        raise GateFailed(f"{what} is a {shape} of {len(points)} points")
    if shape == "polygon":
        slices = points[:, 0]
        if np.abs(slices - np.rint(slices[0])).max() > _IN_A_SLICE:
            raise GateFailed(f"{what} is a polygon that is not in one slice")
        if np.array_equal(points[0], points[-1]):
            raise GateFailed(f"{what} is a polygon that ends with its first point")
        outline = Polygon(points[:, 1:])
        enclosed = make_valid(outline).area
        if not enclosed or abs(outline.area - enclosed) > _SAME_AREA * enclosed:
            raise GateFailed(f"{what} is a polygon that crosses itself, or has no area")
    if shape == "polyline" and not np.ptp(points, axis=0).any():
        raise GateFailed(f"{what} is a polyline without a length")


def _checked_answers(done: Done, manifest: Manifest) -> dict[str, str]:
    choices = {question.name: {choice.name for choice in question.choice} for question in manifest.question}
    if set(done.answers) != set(choices):
        raise GateFailed("answers are not those to the manifest's questions")
    for name, answer in done.answers.items():
        if answer not in choices[name]:
            raise GateFailed(f"the answer to {name} is none of its choices")
    return dict(done.answers)


def _read_array(file: Path, shape: tuple[int, ...], dtype: DTypeLike, what: str) -> NDArray[Any]:
    """The array in `file`, which is gone afterwards; links are not followed, pickles not read."""
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            if os.fstat(descriptor).st_size > expected + _NPY_HEADER:
                raise GateFailed(f"{what} is larger than the grid of the input")
            array = np.load(opened, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise GateFailed(f"{what} cannot be read") from None
    file.unlink()
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        raise GateFailed(f"{what} is not on the grid of the input")
    return array
