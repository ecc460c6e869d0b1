"""An X-ray projection is an image: one slice, no place in the patient, greater values brighter."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from dicomnode.errors import Refused
from dicomnode.imaging.projection import image_geometry, read_image
from tests.imaging.builders import mr_headers, write_series

OF_A_SLICE = ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "PixelSpacing")


def projections(count=1, **attributes):
    headers = mr_headers(shape=(count, 12, 10))
    for ds in headers:
        ds.SOPClassUID, ds.Modality = ComputedRadiographyImageStorage, "CR"
        for keyword in OF_A_SLICE:
            delattr(ds, keyword)
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
    return headers


def refusal(headers, choose=None):
    with pytest.raises(Refused) as caught:
        image_geometry(headers, choose)
    return caught.value


def test_an_image_has_no_place_in_the_patient():
    geometry, (header,) = image_geometry(projections(ImagerPixelSpacing=["0.2", "0.3"]))
    assert (geometry.shape, geometry.in_patient, geometry.in_mm) == ((1, 12, 10), False, True)
    assert geometry.frames[0].SOPInstanceUID == header.SOPInstanceUID
    assert geometry.lps_of((0, 5, 2)) == pytest.approx([0.6, 1.0, 0.0])
    assert geometry.spacing[:2] == (0.2, 0.3)


def test_a_calibrated_spacing_goes_before_that_of_the_detector():
    headers = projections(ImagerPixelSpacing=["0.2", "0.2"], PixelSpacing=["0.15", "0.15"])
    assert image_geometry(headers)[0].spacing[:2] == (0.15, 0.15)


def test_an_image_without_spacing_is_measured_in_pixels_and_says_so():
    geometry, _ = image_geometry(projections())
    assert (geometry.in_mm, geometry.spacing[:2]) == (False, (1.0, 1.0))
    assert geometry.notes == ("the image tells no pixel spacing: lengths are in pixels",)


@pytest.mark.parametrize(
    ("photometric", "rescale", "expected"),
    [
        ("MONOCHROME2", ("1", "0"), lambda stored: stored),
        ("MONOCHROME1", ("1", "0"), lambda stored: 1023 - stored),
        ("MONOCHROME1", ("2", "-5"), lambda stored: 2 * (1023 - stored) - 5),
    ],
)
def test_greater_values_are_brighter(photometric, rescale, expected, tmp_path):
    headers = projections(PhotometricInterpretation=photometric)
    headers[0].RescaleSlope, headers[0].RescaleIntercept = rescale
    headers[0].BitsStored, headers[0].HighBit = 10, 9
    stored = np.random.default_rng(0).integers(0, 1024, (1, 12, 10)).astype(np.uint16)
    image = read_image(write_series(headers, stored, tmp_path))
    assert np.array_equal(image.array, expected(stored.astype(np.float32)))


def test_one_view_of_a_series_of_several_is_chosen():
    headers = projections(4)
    for ds, (view, side) in zip(headers, [("CC", "L"), ("CC", "R"), ("MLO", "L"), ("MLO", "R")], strict=True):
        ds.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
        ds.ViewPosition, ds.ImageLaterality = view, side
    refused = refusal(headers)
    assert refused.code == "SEVERAL_STACKS"
    assert refused.reason.startswith("4 images: 2 views (CC and MLO), 2 sides (L and R);")
    geometry, (header,) = image_geometry(
        headers, lambda image: image["view"] == "MLO" and image["laterality"] == "L"
    )
    assert (header.ViewPosition, header.ImageLaterality, geometry.stack) == ("MLO", "L", 3)


@pytest.mark.parametrize(
    ("sop_class", "code"),
    [(SecondaryCaptureImageStorage, "SECONDARY_CAPTURE"), (None, "NOT_A_PROJECTION")],
)
def test_what_is_no_projection_is_refused(sop_class, code):
    headers = mr_headers()
    if sop_class:
        headers = projections(SOPClassUID=sop_class)
    assert refusal(headers).code == code


def test_images_of_two_patients_are_refused():
    headers = projections(2)
    other = copy.deepcopy(headers[1])
    other.PatientID, other.SOPInstanceUID = "P2", generate_uid()
    assert refusal([headers[0], other]).code == "MIXED_PATIENT"


@pytest.mark.parametrize("name", ["nih-00000001_000-pa-rle.dcm", "nema-cr-monochrome1-j2k.dcm"])
def test_air_beside_the_body_is_dark_in_a_real_chest(name, shared_data):
    image = read_image([shared_data / "cxr" / name])
    rows, columns = image.array.shape[1:]
    corner = image.array[0, : rows // 20, : columns // 20].mean()
    spine = image.array[0, rows // 2 :, int(0.45 * columns) : int(0.55 * columns)].mean()
    assert corner < spine


@pytest.mark.parametrize("name", ["L-CC", "L-MLO", "R-CC", "R-MLO"])
def test_real_mammograms_are_images_in_pixels(name, shared_data):
    image = read_image([shared_data / "mg-screening" / f"{name}.dcm"])
    assert (image.array.shape, image.geometry.in_mm) == ((1, 2600, 2000), False)
