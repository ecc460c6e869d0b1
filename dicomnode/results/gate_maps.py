"""The maps of encoded results against those that were computed, voxel for voxel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import number_of, numbers_of, text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.manifest import Code, Manifest, Map
from dicomnode.results.gate_frames import (
    Frame,
    centroid_of,
    compare_source,
    read_frames,
    require_each_plane_once,
)
from dicomnode.results.gate_masks import compare_segments

_ROUNDING = 1e-6


def compare_fractional(
    ds: Dataset, findings: Findings, of: Map, headers: Sequence[Dataset], manifest: Manifest
) -> None:
    """Raises GateFailed unless the FRACTIONAL Segmentation `ds` gives back each probability within half a
    step, on its plane of the source, for the one segment that the map is of."""
    try:
        compare_segments(
            ds.SegmentSequence, [segment for segment in manifest.segment if segment.name == of.segment]
        )
        kind = (text_of(ds, "SegmentationType"), text_of(ds, "SegmentationFractionalType"))
        if kind != ("FRACTIONAL", "PROBABILITY") or number_of(ds, "BitsAllocated") != 8:
            raise GateFailed("the SEG holds no probabilities")
        highest = float(ds.MaximumFractionalValue)
        stored = np.frombuffer(ds.PixelData, np.uint8, int(np.prod(findings.geometry.shape)))
        frames = _frames(ds, findings, headers)
        if {frame.segment for frame in frames} != {1}:
            raise GateFailed("a frame of the SEG is of no segment")
        read = (
            values.astype(np.float32) / np.float32(highest)
            for values in stored.reshape(findings.geometry.shape)
        )
        _compare_values(ds, findings, of, frames, read, 0.5 / highest + _ROUNDING)
    except UNREADABLE as error:
        raise GateFailed(f"the SEG cannot be read back ({type(error).__name__})") from error


def compare_parametric_map(
    ds: Dataset, findings: Findings, of: Map, headers: Sequence[Dataset], manifest: Manifest
) -> None:
    """Raises GateFailed unless the Parametric Map `ds` gives back each value exactly, on its plane of the
    source, with the quantity and the unit of the manifest's map."""
    try:
        declared = next(each for each in manifest.map if each.name == of.name)
        _compare_meaning(ds, declared)
        if number_of(ds, "BitsAllocated") != 32:
            raise GateFailed("the PM holds no values of 32 bits")
        stored = np.frombuffer(ds.FloatPixelData, "<f4", int(np.prod(findings.geometry.shape)))
        frames = _frames(ds, findings, headers)
        _compare_values(ds, findings, of, frames, iter(stored.reshape(findings.geometry.shape)), 0.0)
    except UNREADABLE as error:
        raise GateFailed(f"the PM cannot be read back ({type(error).__name__})") from error


def require_coded(item: Dataset, code: Code | None, what: str) -> None:
    """Raises GateFailed unless a Code Sequence item says `code` (PS3.3 8.8)."""
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    if code is None or (value, item.CodingSchemeDesignator) != (code.value, code.scheme):
        raise GateFailed(f"{what} is coded as something else than the manifest has it")


def _frames(ds: Dataset, findings: Findings, headers: Sequence[Dataset]) -> list[Frame]:
    compare_source(ds, findings.geometry, headers)
    frames = read_frames(ds, findings.geometry, headers)
    require_each_plane_once(frames, findings.geometry)
    return frames


def _compare_values(
    ds: Dataset,
    findings: Findings,
    of: Map,
    frames: Sequence[Frame],
    read: Iterator[NDArray[np.float32]],
    tolerance: float,
) -> None:
    computed, geometry = findings.maps[of.name], findings.geometry
    centroid = centroid_of(ds, geometry) if geometry.in_patient else None
    lowest = computed.min()
    for frame, values in zip(frames, read, strict=True):
        if not (np.abs(values - computed[frame.plane]) <= tolerance).all():
            raise GateFailed(
                f"the {ds.Modality} of {of.name} differs from the map on slice {frame.plane + 1}"
            )
        if centroid is not None and frame.position is not None:
            centroid.add(np.maximum(values - lowest, 0), frame.plane, frame.position)
    if centroid is not None:
        centroid.require_in_place(f"the {ds.Modality} of {of.name}")


def _compare_meaning(ds: Dataset, of: Map) -> None:
    """What a stored value is of what quantity: itself (PS3.3 C.7.6.16.2.9, C.7.6.16.2.11)."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    mapping, rescale = shared.RealWorldValueMappingSequence[0], shared.PixelValueTransformationSequence[0]
    slopes = (number_of(mapping, "RealWorldValueSlope"), number_of(rescale, "RescaleSlope"))
    intercepts = (number_of(mapping, "RealWorldValueIntercept"), number_of(rescale, "RescaleIntercept"))
    if slopes != (1.0, 1.0) or intercepts != (0.0, 0.0):
        raise GateFailed(f"the PM of {of.name} is rescaled")
    if numbers_of(mapping, "DoubleFloatRealWorldValueFirstValueMapped", 1) is None:
        raise GateFailed(f"the PM of {of.name} does not say which values are mapped")
    require_coded(mapping.MeasurementUnitsCodeSequence[0], of.unit, f"the unit of {of.name}")
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    require_coded(quantity, of.quantity, f"the quantity of {of.name}")
