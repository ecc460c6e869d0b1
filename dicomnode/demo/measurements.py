"""The measured values of a TID 1500 report, read from the report alone (PS3.16 TID 1500, 1411)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

_MEASUREMENT_GROUP = ("125007", "DCM")
_TRACKING_IDENTIFIER = ("112039", "DCM")
_FINDING = ("121071", "DCM")
_VOLUME_UNITS_ML = {"ml": 1.0, "mL": 1.0, "mm3": 0.001, "cm3": 1.0}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One NUM of a measurement group; `unit` is its UCUM code. `segment_number` refers to the group's SEG."""

    finding: str
    segment_number: int | None
    quantity: str
    value: float
    unit: str

    @property
    def volume_ml(self) -> float | None:
        """The value in ml; None where it is no volume."""
        factor = _VOLUME_UNITS_ML.get(self.unit)
        return None if factor is None else self.value * factor


def measurements(report: Dataset) -> list[Measurement]:
    """Every measured value, in the report's order."""
    return [
        measurement
        for item in _descend(report)
        if _concept(item) == _MEASUREMENT_GROUP
        for measurement in _of_group(item)
    ]


def _of_group(group: Dataset) -> Iterator[Measurement]:
    items = list(_descend(group))
    finding = _finding(items)
    segment_number = next((number for item in items if (number := _segment_number(item)) is not None), None)
    for item in items:
        if item.get("ValueType") == "NUM" and item.get("MeasuredValueSequence"):
            measured = item.MeasuredValueSequence[0]
            yield Measurement(
                finding,
                segment_number,
                str(item.ConceptNameCodeSequence[0].CodeMeaning),
                float(measured.NumericValue),
                str(measured.MeasurementUnitsCodeSequence[0].CodeValue),
            )


def _finding(items: list[Dataset]) -> str:
    """What the group is about: its finding's meaning, else its tracking identifier."""
    by_concept = {_concept(item): item for item in reversed(items)}
    if finding := by_concept.get(_FINDING):
        return str(finding.ConceptCodeSequence[0].CodeMeaning)
    tracking = by_concept.get(_TRACKING_IDENTIFIER)
    return str(tracking.TextValue) if tracking else ""


def _segment_number(item: Dataset) -> int | None:
    for reference in item.get("ReferencedSOPSequence") or ():
        if "ReferencedSegmentNumber" in reference:
            return int(reference.ReferencedSegmentNumber)
    return None


def _concept(item: Dataset) -> tuple[str, str] | None:
    names = item.get("ConceptNameCodeSequence")
    return (str(names[0].CodeValue), str(names[0].CodingSchemeDesignator)) if names else None


def _descend(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _descend(child)
