"""The numbers of a report: what the manifest wants measured, in the manifest's units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import GateFailed
from dicomnode.imaging.findings import Findings, MarkFound
from dicomnode.imaging.geometry import Geometry
from dicomnode.model.manifest import Manifest, Measurement, Segment
from dicomnode.results.codes import ML_PER_UNIT
from dicomnode.results.contours import area_of

MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
MM2_PER_UNIT = {"mm2": 1.0, "cm2": 100.0, "m2": 1e6}
PER_ONE = {"1": 1.0, "{0:1}": 1.0, "{probability}": 1.0, "%": 0.01}
"""UCUM units of length, of area and of a probability."""


def of_segment(manifest: Manifest, segment: Segment) -> list[Measurement]:
    """What is measured on a segment, in the order of the manifest."""
    return [item for item in manifest.measurement if item.segment == segment.name]


def of_mark(manifest: Manifest, name: str) -> list[Measurement]:
    """What is measured on each mark of this name."""
    return [item for item in manifest.measurement if item.mark == name]


def of_input(manifest: Manifest) -> list[Measurement]:
    """What is measured on the whole input."""
    return [item for item in manifest.measurement if item.segment is None and item.mark is None]


def segment_value(wanted: Measurement, segment: Segment, findings: Findings, voxels: int) -> float | None:
    """In the unit that is wanted; None where there is nothing to measure, as the mean of no voxel.

    `voxels` are those of the segment in the label map. A projection has no volume. Raises GateFailed for an
    unknown unit.
    """
    if wanted.quantity == "value":
        return whole_value(wanted, findings)
    if wanted.quantity == "volume":
        if not findings.geometry.in_patient:
            return None
        return voxels * findings.geometry.voxel_ml / _factor(ML_PER_UNIT, wanted)
    if not voxels:
        return None
    statistics = findings.statistics[segment.name]
    return statistics.mean if wanted.quantity == "mean" else statistics.sd


def mark_value(wanted: Measurement, mark: MarkFound, geometry: Geometry) -> float | None:
    """In the unit that is wanted; None where the pipeline or the image does not tell it.

    Raises GateFailed for an unknown unit.
    """
    if wanted.quantity == "probability":
        return None if mark.probability is None else mark.probability / _factor(PER_ONE, wanted)
    if not geometry.in_mm:
        return None
    if wanted.quantity == "length":
        steps = np.diff(places_of(mark.points, geometry), axis=0)
        return float(np.linalg.norm(steps, axis=1).sum()) / _factor(MM_PER_UNIT, wanted)
    row, column, _ = geometry.spacing
    return abs(area_of(mark.points[:, 1:])) * row * column / _factor(MM2_PER_UNIT, wanted)


def whole_value(wanted: Measurement, findings: Findings) -> float:
    """What the pipeline yielded under the name of the measurement's value."""
    return findings.values[wanted.value or ""]


def places_of(points: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """LPS mm of indices (slice, row, column), shape (points, 3); of a projection, mm in its plane."""
    places: NDArray[np.float64] = points @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    return places


def _factor(units: dict[str, float], wanted: Measurement) -> float:
    try:
        return units[wanted.unit.value]
    except KeyError:
        raise GateFailed(f"{wanted.unit.value} is no unit of {wanted.quantity} that is known here") from None
