"""Derived images against the map that they show, each on its plane of the source (PS3.3 C.7.6.2, C.11.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import number_of, numbers_of, text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.manifest import Manifest, Map
from dicomnode.results.gate_frames import Centroid, far
from dicomnode.results.gate_maps import require_coded

_HALF = 0.501
"""Half a step, and what the slope's own digits leave of it."""
_POSITION_MM = 1e-3
_FLOAT32 = 2**-23


def compare_derived(
    datasets: Sequence[Dataset],
    findings: Findings,
    of: Map,
    headers: Sequence[Dataset],
    manifest: Manifest,
) -> None:
    """Raises GateFailed unless `datasets`, in slice order, give back each value of the map within half a
    step, each on the plane of its source, as images of one series that is not the source's."""
    try:
        declared = next(each for each in manifest.map if each.name == of.name)
        _compare_series(datasets, findings.geometry, headers)
        lowest = findings.maps[of.name].min()
        centroid = Centroid(findings.geometry, datasets[0], datasets[0])
        for plane, (ds, header) in enumerate(zip(datasets, headers, strict=True)):
            _compare_place(ds, header, findings.geometry, plane)
            _compare_meaning(ds, declared)
            values = _values(ds, findings.maps[of.name][plane], plane)
            position = numbers_of(ds, "ImagePositionPatient", 3) or ()
            centroid.add(np.maximum(values - lowest, 0), plane, position)
        centroid.require_in_place(f"the series of {of.name}")
    except UNREADABLE as error:
        raise GateFailed(f"a derived image cannot be read back ({type(error).__name__})") from error


def _compare_series(datasets: Sequence[Dataset], geometry: Geometry, headers: Sequence[Dataset]) -> None:
    if len(datasets) != geometry.shape[0]:
        raise GateFailed(f"{len(datasets)} derived images of {geometry.shape[0]} planes")
    series = {text_of(ds, "SeriesInstanceUID") for ds in datasets}
    if len(series) != 1 or series == {text_of(headers[0], "SeriesInstanceUID")}:
        raise GateFailed("the derived images are not in one new series")
    if len({text_of(ds, "SOPInstanceUID") for ds in datasets}) != len(datasets):
        raise GateFailed("two derived images have the same SOPInstanceUID")
    if {text_of(ds, "FrameOfReferenceUID") for ds in datasets} != {geometry.FrameOfReferenceUID}:
        raise GateFailed("a derived image is in another frame of reference than the source")


def _compare_place(ds: Dataset, header: Dataset, geometry: Geometry, plane: int) -> None:
    places = (
        ("ImageOrientationPatient", 6, 1e-6),
        ("PixelSpacing", 2, 1e-6),
        ("ImagePositionPatient", 3, _POSITION_MM),
    )
    for keyword, count, tolerance in places:
        if far(ds, header, keyword, count, tolerance):
            raise GateFailed(f"{keyword} of derived image {plane + 1} is not the source's")
    source, frame = ds.SourceImageSequence[0], geometry.frames[plane]
    number = number_of(source, "ReferencedFrameNumber")
    said = (text_of(source, "ReferencedSOPInstanceUID"), None if number is None else int(number))
    if len(ds.SourceImageSequence) != 1 or said != (frame.SOPInstanceUID, frame.frame):
        raise GateFailed(f"derived image {plane + 1} refers to another source than its plane's")
    if text_of(ds, "ImageType").split("\\")[0] != "DERIVED":
        raise GateFailed(f"derived image {plane + 1} does not say that it is derived")


def _compare_meaning(ds: Dataset, of: Map) -> None:
    mapping = ds.RealWorldValueMappingSequence[0]
    slope, intercept = (
        number_of(mapping, "RealWorldValueSlope"),
        number_of(mapping, "RealWorldValueIntercept"),
    )
    rescale = (number_of(ds, "RescaleSlope"), number_of(ds, "RescaleIntercept"))
    if rescale not in ((slope, intercept), (None, None)):
        raise GateFailed(f"an image of {of.name} has two scales")
    require_coded(mapping.MeasurementUnitsCodeSequence[0], of.unit, f"the unit of {of.name}")
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    require_coded(quantity, of.quantity, f"the quantity of {of.name}")


def _values(ds: Dataset, computed: NDArray[np.float32], plane: int) -> NDArray[np.float32]:
    """The real-world values of an image, which are those of the map within half a step."""
    mapping = ds.RealWorldValueMappingSequence[0]
    slope, intercept = float(mapping.RealWorldValueSlope), float(mapping.RealWorldValueIntercept)
    values = ds.pixel_array * slope + intercept
    tolerance = _HALF * slope + _FLOAT32 * float(np.abs(computed).max())
    exact = slope == 1 and intercept == 0 and bool((computed == np.rint(computed)).all())
    if values.shape != computed.shape or not (np.abs(values - computed) <= (0 if exact else tolerance)).all():
        raise GateFailed(f"derived image {plane + 1} differs from the map")
    found: NDArray[np.float32] = values.astype(np.float32)
    return found
