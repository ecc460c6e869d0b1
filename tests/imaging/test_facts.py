"""Facts are read from what is there, and never fail on what is malformed."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.errors import Refused
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.facts import series_facts, study_facts, volume_facts
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers
from dicomnode.imaging.statistics import segment_statistics
from dicomnode.imaging.volume import Volume
from tests.imaging.builders import mr_headers


def raw(keyword, vr, value):
    return RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)


def test_a_series_says_what_it_is():
    facts = series_facts(mr_headers()[0], 5)
    assert facts["modality"] == "MR"
    assert facts["image_type"] == "ORIGINAL\\PRIMARY\\OTHER"
    assert (facts["echo_time"], facts["pixel_spacing"], facts["slice_thickness"]) == (2.98, 1.1, 2.5)
    assert (facts["rows"], facts["columns"], facts["instances"], facts["frames"]) == (12, 10, 5, 1)
    assert facts["contrast_agent"] == ""
    assert "flip_angle" not in facts


def test_a_name_is_one_text_and_several_are_joined():
    ds = Dataset()
    ds.PatientName = "Yamada^Tarou"
    ds.OtherPatientNames = ["Doe^Jane", "Roe^Jane"]
    assert text_of(ds, "PatientName") == "Yamada^Tarou"
    assert text_of(ds, "OtherPatientNames") == "Doe^Jane\\Roe^Jane"


def test_junk_is_as_if_it_were_absent():
    ds = Dataset()
    ds["EchoTime"] = raw("EchoTime", "DS", b"2,98 ms ")
    ds["PixelSpacing"] = raw("PixelSpacing", "DS", b"a\\b ")
    ds["Rows"] = raw("Rows", "US", b"\x01")
    ds["PatientAge"] = raw("PatientAge", "AS", b"old ")
    ds["PatientBirthDate"] = raw("PatientBirthDate", "DA", b"1970-1-1")
    facts = series_facts(ds, 1) | study_facts(ds)
    assert not {"echo_time", "pixel_spacing", "rows", "patient_age"} & set(facts)


@pytest.mark.parametrize(("age", "years"), [("056Y", 56), ("018M", 1.5), ("", 55.9986)])
def test_an_age_is_in_years_or_counted_from_the_date_of_birth(age, years):
    ds = mr_headers()[0]
    ds.PatientAge = age
    assert study_facts(ds)["patient_age"] == pytest.approx(years, abs=0.01)


def test_every_odd_file_has_facts(shared_data):
    for path in sorted((shared_data / "odd").glob("*.dcm")):
        try:
            ds = read_headers([path])[0]
        except Refused:
            continue
        assert series_facts(ds, 1)["instances"] == 1
        study_facts(ds)


def test_a_volume_says_its_size():
    geometry, _ = series_geometry(mr_headers())
    array = np.linspace(-5, 7, 600, dtype=np.float32).reshape(5, 12, 10)
    facts = volume_facts(Volume(array, geometry))
    assert facts["extent_mm"] == pytest.approx([12.5, 9.6, 11.0])
    assert (facts["minimum"], facts["maximum"]) == (-5, 7)
    assert "minimum" not in volume_facts(geometry)


def test_segments_are_measured_and_their_union_too():
    geometry, _ = series_geometry(mr_headers())
    labels = np.zeros((5, 12, 10), np.uint8)
    labels[0, 0, 0], labels[1, 1, 1], labels[4, 9, 9], labels[4, 9, 8] = 2, 2, 2, 7
    array = np.zeros(labels.shape, np.float32)
    array[0, 0, 0], array[4, 9, 8] = 6, 100
    found = segment_statistics(array, labels, geometry, {"a": 2, "b": 7, "none": 9})
    assert found["a"].volume_ml == pytest.approx(3 * 0.0022)
    assert (found["a"].mean, found["a"].largest_component) == (2, pytest.approx(2 / 3))
    assert found["none"].volume_ml == found["none"].largest_component == 0
    assert found["all"].volume_ml == pytest.approx(4 * 0.0022)
    assert found["all"].largest_component == pytest.approx(0.5)
