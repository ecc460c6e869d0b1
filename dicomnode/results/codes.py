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


def concept(code: Code) -> Any:
    """A manifest's code as a Code Sequence item (PS3.3 8.8)."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def series_description(manifest: Manifest, provenance: Provenance, kind: str) -> str:
    """SeriesDescription, at most 64 characters: the warning is never what is cut off."""
    words = f"{manifest.pipeline.title} {kind}"
    if provenance.research_only:
        words = f"{RESEARCH_ONLY} {words}"
    return words[:64]


def processing_equipment(manifest: Manifest, provenance: Provenance) -> list[Any]:
    """The node and the pipeline as contributing equipment (PS3.3 C.12.1.1.5)."""
    node = highdicom.ContributingEquipment(
        manufacturer=provenance.manufacturer,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=provenance.model_name,
        software_versions=provenance.software_version,
        device_serial_number=provenance.device_serial_number,
        contribution_datetime=provenance.produced_at,
        contribution_description="encoded the result",
    )
    pipeline = highdicom.ContributingEquipment(
        manufacturer=provenance.manufacturer,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=manifest.pipeline.name,
        software_versions=[manifest.pipeline.version, provenance.pipeline_digest[:64]],
        contribution_datetime=provenance.produced_at,
        contribution_description="computed the result",
    )
    return [node, pipeline]


def own_texts(manifest: Manifest, provenance: Provenance) -> list[str]:
    """Every text of ours that a result may hold, to choose its character set."""
    segments = [
        text
        for segment in manifest.segment
        for text in (segment.title, *_meanings(segment.category, segment.type))
    ]
    measurements = [text for item in manifest.measurement for text in _meanings(item.code, item.unit)]
    origin = [provenance.manufacturer, provenance.model_name, provenance.software_version]
    origin += [provenance.device_serial_number, provenance.station_name]
    algorithm = [manifest.algorithm.name, manifest.algorithm.family.meaning]
    return [manifest.pipeline.title, manifest.pipeline.version, *segments, *measurements, *origin, *algorithm]


def _meanings(*concepts: Code) -> list[str]:
    return [code.meaning for code in concepts]
