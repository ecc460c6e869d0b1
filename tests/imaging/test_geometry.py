"""The grid of a series is right, or the series is refused with a reason that a person understands."""

from __future__ import annotations

import random

import numpy as np
import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from dicomnode.errors import Refused
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers
from tests.imaging.builders import AXIAL, CORONAL, ORIENTATIONS, SAGITTAL, decimals, mr_headers


def refusal(headers):
    with pytest.raises(Refused) as caught:
        series_geometry(headers)
    return caught.value


def place(ds, position):
    ds.ImagePositionPatient = decimals(np.array(position, float))


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_an_index_is_taken_to_the_position_that_the_headers_state(orientation):
    headers = mr_headers(orientation)
    shuffled = random.Random(1).sample(headers, len(headers))
    geometry, ordered = series_geometry(shuffled)
    assert [ds.SOPInstanceUID for ds in ordered] == [ds.SOPInstanceUID for ds in headers]
    along_row, along_column = np.array(orientation)
    for index, ds in enumerate(ordered):
        first = np.array(ds.ImagePositionPatient, float)
        assert np.allclose(geometry.lps_of((index, 0, 0)), first, atol=1e-6)
        assert np.allclose(
            geometry.lps_of((index, 3, 4)), first + along_column * 3 * 0.8 + along_row * 4 * 1.1, atol=1e-6
        )
    assert geometry.voxel_ml == pytest.approx(0.8 * 1.1 * 2.5 / 1000)
    assert geometry.spacing == pytest.approx((0.8, 1.1, 2.5))
    assert geometry.shape == (5, 12, 10)


def test_positions_written_with_few_digits_are_regular():
    headers = mr_headers(spacing=(1, 1, 1.25))
    for index, ds in enumerate(headers):
        place(ds, [0, 0, round(1.25 * index + 1e-3 * (index % 2), 3)])
    assert series_geometry(headers)[0].spacing[2] == pytest.approx(1.25, rel=0.01)


def test_no_slices_and_two_slices_are_too_few():
    assert refusal([]).code == "TOO_FEW_SLICES"
    assert refusal(mr_headers()[:2]).code == "TOO_FEW_SLICES"


@pytest.mark.parametrize(
    "keyword", ["ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "FrameOfReferenceUID"]
)
def test_a_slice_without_its_place_has_no_geometry(keyword):
    headers = mr_headers()
    delattr(headers[2], keyword)
    refused = refusal(headers)
    assert refused.code == "NO_GEOMETRY"
    assert refused.reason == f"1 of 5 slices have no usable {keyword}"


def test_axes_that_are_not_at_a_right_angle_are_no_geometry():
    headers = mr_headers()
    for ds in headers:
        ds.ImageOrientationPatient = [1, 0, 0, 0.5, 0.8660254, 0]
    assert refusal(headers).code == "NO_GEOMETRY"


def test_a_multi_frame_instance_is_refused():
    headers = mr_headers()
    headers[0].NumberOfFrames = 10
    assert refusal(headers).code == "MULTI_FRAME"


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("PatientID", "P2", "MIXED_PATIENT"),
        ("PatientBirthDate", "19710102", "MIXED_PATIENT"),
        ("StudyInstanceUID", "1.2.3", "MIXED_STUDY"),
        ("SeriesInstanceUID", "1.2.3", "MIXED_SERIES"),
        ("SOPClassUID", CTImageStorage, "MIXED_SERIES"),
        ("FrameOfReferenceUID", "1.2.3", "MIXED_FRAME_OF_REFERENCE"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.9998, 0.02], "MIXED_ORIENTATION"),
        ("Rows", 13, "MIXED_SIZE"),
        ("PixelSpacing", [0.8, 1.2], "MIXED_SPACING"),
    ],
)
def test_a_slice_that_differs_from_the_others_is_refused(keyword, value, code):
    headers = mr_headers()
    setattr(headers[3], keyword, value)
    assert refusal(headers).code == code


def test_two_slices_in_one_place_are_refused():
    headers = mr_headers()
    headers[3].ImagePositionPatient = headers[2].ImagePositionPatient
    refused = refusal(headers)
    assert (refused.code, refused.reason[:12]) == ("DUPLICATE_POSITIONS", "1 of 5 slice")


def test_missing_slices_are_counted_and_placed():
    headers = mr_headers(shape=(20, 4, 4), spacing=(1, 1, 1.5), origin=(0, 0, -150))
    del headers[6:9]
    refused = refusal(headers)
    assert refused.code == "MISSING_SLICES"
    assert refused.reason == "3 slices missing between -142.5 and -136.5 mm"


def test_slices_at_changing_distances_are_refused():
    headers = mr_headers()
    place(headers[4], [-31.25, 12.5, 40.75 + 4.3 * 2.5])
    assert refusal(headers).code == "IRREGULAR_SPACING"


def test_a_slice_that_is_shifted_sideways_is_refused():
    headers = mr_headers()
    place(headers[2], [-30.25, 12.5, 45.75])
    assert refusal(headers).code == "IRREGULAR_SPACING"


def test_the_step_between_slices_of_a_tilted_gantry_is_slanted():
    headers = mr_headers(slant=(0.9, 0.0))
    geometry, _ = series_geometry(headers)
    assert np.allclose(geometry.lps_of((4, 0, 0)), np.array(headers[4].ImagePositionPatient, float))
    assert geometry.spacing == pytest.approx((0.8, 1.1, 2.5))
    assert geometry.voxel_ml == pytest.approx(0.8 * 1.1 * 2.5 / 1000)


def test_slices_stacked_more_aslant_than_any_gantry_tilts_are_refused():
    refused = refusal(mr_headers(slant=(5.0, 0.0)))
    assert (refused.code, refused.reason) == (
        "GANTRY_TILT",
        "the slices are stacked at 63.4 degrees from their normal",
    )


@pytest.mark.parametrize("says_so", [True, False])
def test_localizers_are_left_out_and_noted(says_so):
    headers = mr_headers()
    scout = mr_headers(AXIAL if says_so else CORONAL)[0]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(scout, keyword, headers[0][keyword].value)
    if says_so:
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        del scout.ImagePositionPatient
    geometry, ordered = series_geometry([scout, *headers])
    assert [ds.SOPInstanceUID for ds in ordered] == [ds.SOPInstanceUID for ds in headers]
    assert geometry.notes == ("1 localizer image was left out",)


def test_planes_in_three_orientations_are_no_volume_with_localizers():
    headers = [ds for orientation in (AXIAL, SAGITTAL, CORONAL) for ds in mr_headers(orientation)]
    for ds in headers:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(ds, keyword, headers[0][keyword].value)
    assert refusal(headers).code == "MIXED_ORIENTATION"


def test_a_series_of_localizers_alone_is_refused():
    headers = mr_headers()
    for ds in headers:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    assert refusal(headers).code == "LOCALIZER"


def test_slices_with_a_frame_of_reference_each_are_in_the_space_of_the_first():
    headers = mr_headers()
    for ds in headers:
        ds.FrameOfReferenceUID = generate_uid()
    geometry, ordered = series_geometry(headers[::-1])
    assert geometry.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert {ds.FrameOfReferenceUID for ds in ordered} == {headers[0].FrameOfReferenceUID}
    assert headers[1].FrameOfReferenceUID != headers[0].FrameOfReferenceUID
    assert geometry.notes == (
        "each slice names a frame of reference of its own; that of the first slice stands for all",
    )


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("PhotometricInterpretation", "RGB", "COLOUR"),
        ("PhotometricInterpretation", "", "NOT_AN_IMAGE"),
        ("SamplesPerPixel", 3, "COLOUR"),
        ("SOPClassUID", SecondaryCaptureImageStorage, "SECONDARY_CAPTURE"),
        ("SOPClassUID", MultiFrameGrayscaleWordSecondaryCaptureImageStorage, "SECONDARY_CAPTURE"),
        ("SOPClassUID", ComputedRadiographyImageStorage, "PROJECTION_IMAGE"),
    ],
)
def test_only_grey_slices_make_a_volume(keyword, value, code):
    headers = mr_headers()
    for ds in headers:
        setattr(ds, keyword, value)
    assert refusal(headers).code == code


@pytest.mark.parametrize(
    ("folder", "shape"),
    [
        ("mr-head-t1", (384, 384, 274)),
        ("ct-abdomen-liver", (41, 512, 512)),
        ("ct-abdomen-totalseg", (20, 512, 512)),
        ("ct-chest-lidc", (138, 512, 512)),
        ("rt-sts/ct", (48, 143, 161)),
        ("rt-sts/pet", (48, 27, 30)),
    ],
)
def test_real_series_have_a_grid(folder, shape, shared_data):
    assert series_geometry(read_headers(sorted((shared_data / folder).glob("*.dcm"))))[0].shape == shape


def test_a_real_tilted_head_has_a_grid_where_its_spacing_is_even(shared_data):
    headers = read_headers(sorted((shared_data / "ct-head-tilt").glob("*.dcm")))
    refused = refusal(headers)
    assert (refused.code, refused.reason) == (
        "IRREGULAR_SPACING",
        "the distance between slices goes from 1.081 to 6.999 mm",
    )
    for part, between in ((headers[:14], 4.0), (headers[14:], 7.0)):
        geometry, _ = series_geometry(part)
        step = geometry.affine[:3, 0]
        tilt = np.degrees(np.arccos(geometry.spacing[2] / np.linalg.norm(step)))
        assert (geometry.spacing[2], tilt) == (pytest.approx(between, abs=0.01), pytest.approx(18.5, abs=0.1))
