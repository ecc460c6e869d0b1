"""The grid of a series is right, or the series is refused with a reason that a person understands."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dicomnode.errors import Refused
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers
from tests.imaging.builders import CORONAL, ORIENTATIONS, decimals, mr_headers


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
    assert refused.reason == f"1 of 5 instances have no usable {keyword}"


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
        ("FrameOfReferenceUID", "1.2.3", "MIXED_FRAME_OF_REFERENCE"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.9998, 0.02], "MIXED_ORIENTATION"),
        ("ImageOrientationPatient", [*CORONAL[0], *CORONAL[1]], "MIXED_ORIENTATION"),
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


def test_slices_stacked_aslant_are_a_gantry_tilt():
    headers = mr_headers()
    for index, ds in enumerate(headers):
        place(ds, [0, 0.9 * index, 2.5 * index])
    refused = refusal(headers)
    assert (refused.code, refused.reason) == (
        "GANTRY_TILT",
        "the slices are stacked at 19.8 degrees from their normal",
    )


@pytest.mark.parametrize(
    ("folder", "shape"),
    [
        ("mr-head-t1", (384, 384, 274)),
        ("ct-abdomen-liver", (41, 512, 512)),
        ("ct-abdomen-totalseg", (20, 512, 512)),
    ],
)
def test_real_series_have_a_grid(folder, shape, shared_data):
    assert series_geometry(read_headers(sorted((shared_data / folder).glob("*.dcm"))))[0].shape == shape


@pytest.mark.parametrize(
    ("folder", "codes"),
    [
        ("ct-head-tilt", {"GANTRY_TILT", "IRREGULAR_SPACING"}),
        ("ct-chest-lidc", {"MIXED_FRAME_OF_REFERENCE"}),
    ],
)
def test_real_series_without_a_grid_are_refused(folder, codes, shared_data):
    assert refusal(read_headers(sorted((shared_data / folder).glob("*.dcm")))).code in codes
