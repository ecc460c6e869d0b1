"""Coded concepts of a manifest as highdicom takes them, and what the results have in common."""

from __future__ import annotations

from typing import Any

import highdicom
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from dicomnode.model.manifest import Code, Manifest
from dicomnode.results.provenance import Provenance

RESEARCH_ONLY = "RESEARCH ONLY"

ML_PER_UNIT = {"ml": 1.0, "mL": 1.0, "cm3": 1.0, "mm3": 0.001, "l": 1000.0, "L": 1000.0}
"""UCUM units of volume."""


ABSENT = CodedConcept("2667000", "SCT", "Absent")
"""What was looked for and not found (PS3.16 CID 240)."""
ANATOMICAL_STRUCTURE = ("123037004", "SCT")
"""The category of segments that are parts of the body."""


def concept(code: Code) -> Any:
    """A manifest's code as a Code Sequence item (PS3.3 8.8)."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def series_description(title: str, provenance: Provenance, kind: str) -> str:
    """SeriesDescription, at most 64 characters: neither the warning nor the kind is what is cut off."""
    warning = f"{RESEARCH_ONLY} " if provenance.research_only else ""
    return f"{warning}{title[: 63 - len(warning) - len(kind)]} {kind}"


def content_description(title: str, provenance: Provenance) -> str:
    """ContentDescription and the like: the title, after the warning."""
    return (f"{RESEARCH_ONLY} {title}" if provenance.research_only else title)[:64]


def processing_equipment(manifest: Manifest | None, provenance: Provenance) -> list[Any]:
    """The node, and the pipeline where there is one, as contributing equipment (PS3.3 C.12.1.1.5)."""
    node = highdicom.ContributingEquipment(
        manufacturer=provenance.manufacturer,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=provenance.model_name,
        software_versions=provenance.software_version,
        device_serial_number=provenance.device_serial_number,
        contribution_datetime=provenance.produced_at,
        contribution_description="encoded the result",
    )
    if manifest is None:
        return [node]
    pipeline = highdicom.ContributingEquipment(
        manufacturer=provenance.manufacturer,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=manifest.pipeline.name,
        software_versions=[manifest.pipeline.version, provenance.pipeline_digest[:64]],
        contribution_datetime=provenance.produced_at,
        contribution_description="computed the result",
    )
    return [node, pipeline]
