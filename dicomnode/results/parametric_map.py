"""A map of a quantity as a Parametric Map of float32 (PS3.3 A.75)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom.pm import RealWorldValueMapping
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ParametricMapStorage
from pydicom.valuerep import format_number_as_ds

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest, Map
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.codes import concept
from dicomnode.results.frame_groups import FrameGroups, in_place, pixel_element
from dicomnode.results.instance import tell_part_of_body
from dicomnode.results.multiframe import Kind, index_dimensions, new_instance
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance

_FLOAT_PIXEL_DATA = 0x0008
_FRAME_TYPE = ("DERIVED", "PRIMARY", "VOLUME", "QUANTITY")
_LONGEST_LABEL = 16


def encode_parametric_map(
    findings: Findings, of: Map, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> EncodedResult:
    """The map's values as they are, one frame a plane, with its quantity and unit (PS3.3 C.7.6.16.2.11).

    Raises GateFailed where a value is not finite, or the source is a projection: a Parametric Map has a place
    in the patient (PS3.3 A.75.4).
    """
    if not findings.geometry.in_patient:
        raise GateFailed("a projection has no place in the patient, which a Parametric Map needs")
    values = np.ascontiguousarray(findings.maps[of.name], dtype="<f4")
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise GateFailed(f"the map {of.name} holds values that are not finite")
    kind = Kind(ResultRole.PARAMETRIC_MAP, ParametricMapStorage, "OT", _FRAME_TYPE, "MAP", map=of)
    ds = new_instance(kind, findings.geometry, headers, manifest, provenance)
    tell_part_of_body(ds, headers[0])
    ds.ContentQualification = "RESEARCH" if provenance.research_only else "PRODUCT"
    ds.PixelPresentation = "MONOCHROME"
    ds.BurnedInAnnotation = "NO"
    ds.RecognizableVisualFeatures = _shows_features(headers[0])
    ds.AcquisitionContextSequence = []
    ds.BitsAllocated, ds.NumberOfFrames = 32, len(headers)
    _share(ds.SharedFunctionalGroupsSequence[0], of, lowest, highest)
    index_dimensions(ds, provenance, by_segment=False)
    derivation = codes.DCM.UnspecifiedMethodOfCalculation
    frames = ((plane, None) for plane in range(len(headers)))
    groups = FrameGroups(findings.geometry, headers, derivation).encoded(frames)
    tail = (groups, *pixel_element(_FLOAT_PIXEL_DATA, "OF", in_place(values)))
    return finish(ds, kind.role, headers[0], provenance, tail)


def _shows_features(header: Dataset) -> str:
    """A map of a head may show its face as its source did (PS3.3 C.7.6.1.1.7)."""
    return "YES" if text_of(header, "RecognizableVisualFeatures") == "YES" else "NO"


def _share(shared: Dataset, of: Map, lowest: float, highest: float) -> None:
    """The functional groups that say what the values are and how to show them (PS3.3 A.75.4)."""
    if of.quantity is None or of.unit is None:
        raise GateFailed(f"the map {of.name} has no quantity or no unit")
    shared.ParametricMapFrameTypeSequence = [Dataset()]
    shared.ParametricMapFrameTypeSequence[0].FrameType = list(_FRAME_TYPE)
    shared.RealWorldValueMappingSequence = [
        RealWorldValueMapping(
            lut_label=of.name[:_LONGEST_LABEL],
            lut_explanation=of.title,
            unit=concept(of.unit),
            value_range=(lowest, highest),
            slope=1.0,
            intercept=0.0,
            quantity_definition=concept(of.quantity),
        )
    ]
    identity = Dataset()
    identity.RescaleIntercept, identity.RescaleSlope, identity.RescaleType = "0", "1", "US"
    shared.PixelValueTransformationSequence = [identity]
    window = Dataset()
    window.WindowCenter = format_number_as_ds((lowest + highest) / 2)
    window.WindowWidth = format_number_as_ds((highest - lowest) or 1.0)
    shared.FrameVOILUTSequence = [window]
