"""The numbers of an encoded report against the findings, computed once more from the source's headers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import number_of, numbers_of, text_of
from dicomnode.imaging.findings import Findings, MarkFound
from dicomnode.model.manifest import Manifest, Measurement, Segment
from dicomnode.results.codes import ML_PER_UNIT
from dicomnode.results.measured import MM2_PER_UNIT, MM_PER_UNIT, PER_ONE

Expected = tuple[Measurement, float]
"""What the manifest wants measured, and its value in the unit of the manifest."""
_TOLERANCE = 1e-5
"""Seven digits of the value, and what the header's own digits leave of the distance between slices."""


def of_segment(
    segment: Segment, voxels: int, findings: Findings, headers: Sequence[Dataset], manifest: Manifest
) -> list[Expected]:
    """The volume is that of the mask's voxels; the mean of no voxel is not expected."""
    values: dict[str, float] = {}
    if findings.geometry.in_patient:
        values["volume"] = voxels * _voxel_ml(headers)
    if voxels and segment.name in findings.statistics:
        values["mean"] = findings.statistics[segment.name].mean
        values["sd"] = findings.statistics[segment.name].sd
    wanted = (item for item in manifest.measurement if item.segment == segment.name)
    return list(_expected(wanted, values, findings))


def of_mark(mark: MarkFound, findings: Findings, manifest: Manifest) -> list[Expected]:
    """The length of a polyline and the area of a polygon, in mm; what the pipeline told of the mark."""
    values: dict[str, float] = {}
    if mark.probability is not None:
        values["probability"] = mark.probability
    if findings.geometry.in_mm:
        places = np.array([findings.geometry.lps_of(point) for point in mark.points])
        values["length"] = sum(math.dist(*pair) for pair in pairwise(places))
        around = sum(np.cross(a - places[0], b - places[0]) for a, b in pairwise(places))
        values["area"] = float(np.linalg.norm(around)) / 2
    wanted = (item for item in manifest.measurement if item.mark == mark.name)
    return list(_expected(wanted, values, findings))


def of_input(findings: Findings, manifest: Manifest) -> list[Expected]:
    """What the pipeline told of the whole input."""
    wanted = (item for item in manifest.measurement if item.segment is None and item.mark is None)
    return list(_expected(wanted, {}, findings))


def compare_numbers(group: Dataset, expected: Sequence[Expected], name: str) -> None:
    """Raises GateFailed unless the NUM items of `group` are `expected`, in this order."""
    stated = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    if len(stated) != len(expected):
        raise GateFailed(f"{len(stated)} numbers for {name} in the SR, {len(expected)} were measured")
    for item, (wanted, value) in zip(stated, expected, strict=True):
        measured = item.MeasuredValueSequence[0]
        if not _is(item.ConceptNameCodeSequence[0], wanted.code.value, wanted.code.scheme):
            raise GateFailed(f"a number for {name} in the SR is of another quantity")
        if not _is(measured.MeasurementUnitsCodeSequence[0], wanted.unit.value, wanted.unit.scheme):
            raise GateFailed(f"a number for {name} in the SR has another unit")
        said = number_of(measured, "NumericValue")
        if said is None or not math.isclose(said, value, rel_tol=_TOLERANCE, abs_tol=1e-9):
            raise GateFailed(f"the {wanted.quantity} of {name} in the SR is {said}, of its mask {value:.7g}")


def _expected(
    wanted: Iterable[Measurement], values: dict[str, float], findings: Findings
) -> Iterator[Expected]:
    factors = {"volume": ML_PER_UNIT, "length": MM_PER_UNIT, "area": MM2_PER_UNIT, "probability": PER_ONE}
    for item in wanted:
        if item.quantity == "value":
            yield item, findings.values[item.value or ""]
        elif item.quantity in values:
            factor = factors[item.quantity][item.unit.value] if item.quantity in factors else 1.0
            yield item, values[item.quantity] / factor


def _voxel_ml(headers: Sequence[Dataset]) -> float:
    """Of the source's own headers, not of the grid that the findings came with."""
    cosines = np.array(numbers_of(headers[0], "ImageOrientationPatient", 6))
    first, last = (np.array(numbers_of(ds, "ImagePositionPatient", 3)) for ds in (headers[0], headers[-1]))
    row, column = np.array(numbers_of(headers[0], "PixelSpacing", 2))
    thick = abs(float((last - first) @ np.cross(cosines[:3], cosines[3:]))) / (len(headers) - 1)
    return float(row * column * thick) / 1000.0


def _is(item: Dataset, value: str, scheme: str) -> bool:
    return text_of(item, "CodeValue") == value and text_of(item, "CodingSchemeDesignator") == scheme
