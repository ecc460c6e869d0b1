"""A map as a series of images of its source's kind: CT, MR or PET, one a plane (PS3.3 A.3, A.4, A.21)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.pm import RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import number_of, text_of, value_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.rendering import window_of
from dicomnode.model.manifest import Manifest, Map
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.codes import concept, processing_equipment
from dicomnode.results.derived_modules import HOUNSFIELD, ImageModules, modules_of
from dicomnode.results.frame_groups import in_place, pixel_element
from dicomnode.results.instance import Names, begin, tell_part_of_body
from dicomnode.results.multiframe import (
    acquisition_equipment,
    carry_loss,
    code_item,
    decimals,
    series_number,
    with_elements,
)
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance

_STEPS = 65535
_MOST = 32767
_SAMPLES = 200_000
_WINDOW = (1.0, 99.0)
"""Percentiles of the map's values between which the images are shown."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Modality value = slope × stored value + intercept (PS3.3 C.11.1.1.2); stored are signed 16 bits."""

    slope: float
    intercept: float

    def stored(self, values: NDArray[np.float32]) -> NDArray[np.int16]:
        """The nearest stored values."""
        steps = (values.astype(np.float64) - self.intercept) / self.slope
        return np.clip(np.rint(steps), -_MOST - 1, _MOST).astype("<i2")


def encode_derived(
    findings: Findings, of: Map, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> tuple[EncodedResult, ...]:
    """One image for each plane, in slice order, in one new series of the source's study and kind.

    Each lies where its source lies and refers to it; values come back within half a step of one scale for the
    whole series, whole numbers of up to 16 bits exactly. The scale is in the Real World Value Mapping, and in
    CT and PET in Rescale Slope and Intercept too: MR Image Storage has none. From multi-frame sources too
    single-frame images are made. Raises GateFailed where the source is neither CT nor MR nor PET, or a value
    is not finite.
    """
    modules = modules_of(headers[0])
    values = findings.maps[of.name]
    scale = _scale(values, modules, of)
    window = _window_of_source(of, headers[0]) or _window(values)
    series = _series(findings.geometry, of, headers, manifest, provenance, modules)
    _write_scale(series, scale, window, of, modules)
    results = []
    for plane, header in enumerate(headers):
        ds = Dataset(dict(series.items()))
        ds.file_meta = copy.deepcopy(series.file_meta)
        ds.SOPInstanceUID = provenance.uid("instance", ResultRole.DERIVED, of.name, str(plane))
        ds.InstanceNumber = plane + 1
        _write_plane(ds, findings.geometry, plane, header, modules)
        tail = pixel_element(0x0010, "OW", in_place(scale.stored(values[plane])))
        results.append(finish(ds, ResultRole.DERIVED, header, provenance, tail))
    return tuple(results)


def _scale(values: NDArray[np.float32], modules: ImageModules, of: Map) -> Scale:
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise GateFailed(f"the map {of.name} holds values that are not finite")
    if lowest >= -_MOST and highest <= _MOST and all((plane == np.rint(plane)).all() for plane in values):
        return Scale(1.0, 0.0)
    if not modules.intercepts:
        return Scale(_decimal(max(-lowest, highest) / _MOST, up=True), 0.0)
    middle = _decimal((lowest + highest) / 2)
    return Scale(_decimal((highest - lowest) / (_STEPS - 1), up=True), middle)


def _decimal(number: float, *, up: bool = False) -> float:
    """The number as a decimal string can hold it (PS3.5 6.2); not less than it where `up`."""
    return float(format_number_as_ds(number * (1 + 1e-9) if up else number))


def _window_of_source(of: Map, header: Dataset) -> tuple[float, float] | None:
    """Centre and width of a CT, where the map is in Hounsfield units as it is."""
    window = window_of(header)
    if window is None or of.unit is None or of.unit.value != HOUNSFIELD:
        return None
    return window.center, window.width


def _window(values: NDArray[np.float32]) -> tuple[float, float]:
    """Centre and width that show most of the values, from a sample of them; the lowest is background."""
    sample = values.reshape(-1)[:: max(1, values.size // _SAMPLES)]
    inside = sample[sample != sample.min()]
    lowest, highest = (float(value) for value in np.percentile(inside if inside.size else sample, _WINDOW))
    return (lowest + highest) / 2, max(highest - lowest, 1e-6)


def _series(
    geometry: Geometry,
    of: Map,
    headers: Sequence[Dataset],
    manifest: Manifest,
    provenance: Provenance,
    modules: ImageModules,
) -> Dataset:
    """What all images of the series have in common."""
    number = series_number(provenance, manifest, of)
    names = Names((ResultRole.DERIVED, of.name), number, manifest.pipeline.title, of.title)
    ds = begin(modules.SOPClassUID, modules.Modality, names, provenance)
    ds.ContributingEquipmentSequence = [
        *acquisition_equipment(headers[0]),
        *processing_equipment(manifest, provenance),
    ]
    ds.FrameOfReferenceUID = geometry.FrameOfReferenceUID
    ds.DerivationDescription = of.title
    ds.DerivationCodeSequence = [code_item(codes.DCM.UnspecifiedMethodOfCalculation)]
    ds.Rows, ds.Columns = geometry.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    carry_loss(ds, headers)
    return ds


def _write_scale(
    ds: Dataset, scale: Scale, window: tuple[float, float], of: Map, modules: ImageModules
) -> None:
    if of.quantity is None or of.unit is None:
        raise GateFailed(f"the map {of.name} has no quantity or no unit")
    centre, width = window
    if modules.rescales:
        ds.RescaleSlope = format_number_as_ds(scale.slope)
        ds.RescaleIntercept = format_number_as_ds(scale.intercept)
    else:
        # The window is then on stored values (PS3.3 C.11.2.1.2).
        centre, width = (centre - scale.intercept) / scale.slope, width / scale.slope
    ds.WindowCenter, ds.WindowWidth = format_number_as_ds(centre), format_number_as_ds(width)
    ds.RealWorldValueMappingSequence = [
        RealWorldValueMapping(
            lut_label=of.name[:16],
            lut_explanation=of.title,
            unit=concept(of.unit),
            value_range=(-_MOST - 1, _MOST),
            slope=scale.slope,
            intercept=scale.intercept,
            quantity_definition=concept(of.quantity),
        )
    ]
    modules.say_unit(ds, of.unit)


def _write_plane(ds: Dataset, geometry: Geometry, plane: int, header: Dataset, modules: ImageModules) -> None:
    """Where the image lies, what it was made of, and what of its source is true of it too."""
    for keyword in modules.carried:
        if number_of(header, keyword) is not None and header[keyword].VR == "DS":
            setattr(ds, keyword, decimals(header, keyword))
        elif value_of(header, keyword) is not None:
            ds[keyword] = copy.deepcopy(header[Tag(keyword)])
        elif keyword in modules.type_2:
            setattr(ds, keyword, None)
    modules.complete(ds, header, plane, geometry.shape[0])
    ds.ImagePositionPatient = decimals(header, "ImagePositionPatient", 3)
    ds.ImageOrientationPatient = decimals(header, "ImageOrientationPatient", 6)
    ds.PixelSpacing = decimals(header, "PixelSpacing", 2)
    tell_part_of_body(ds, header)
    source = with_elements(
        ReferencedSOPClassUID=text_of(header, "SOPClassUID"),
        ReferencedSOPInstanceUID=text_of(header, "SOPInstanceUID"),
        PurposeOfReferenceCodeSequence=[code_item(codes.DCM.SourceImageForImageProcessingOperation)],
    )
    if (frame := geometry.frames[plane].frame) is not None:
        source.ReferencedFrameNumber = frame
    ds.SourceImageSequence = [source]
