"""A frame has the header that a single-frame instance of the same plane would have."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dicomnode.errors import Refused
from dicomnode.imaging.facts import series_facts
from dicomnode.imaging.geometry import SourceFrame, series_geometry
from dicomnode.imaging.headers import read_headers
from dicomnode.imaging.planes import planes_of
from dicomnode.imaging.volume import read_volume
from tests.imaging import phantoms
from tests.imaging.builders import OBLIQUE, mr_headers

SHAPE = (6, 8, 7)
OF_A_PLANE = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("EchoTime", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "Rows", "Columns"),
)


def enhanced(headers, modality="MR"):
    return phantoms.multi_frame(headers, phantoms.ENHANCED[modality])


def test_functional_groups_are_laid_over_the_attributes_of_the_instance():
    headers = mr_headers(OBLIQUE, SHAPE)
    ds = enhanced(headers)
    for plane, single in zip(planes_of(ds), headers, strict=True):
        assert [plane.header[keyword].value for keyword in OF_A_PLANE] == [
            single[keyword].value for keyword in OF_A_PLANE
        ]
        assert plane.header.SOPInstanceUID == ds.SOPInstanceUID
        assert "PerFrameFunctionalGroupsSequence" not in plane.header
        assert "NumberOfFrames" not in plane.header


def test_each_slice_names_its_instance_and_its_frame():
    headers = mr_headers(OBLIQUE, SHAPE)
    order = random.Random(2).sample(range(6), 6)
    ds = enhanced([headers[index] for index in order])
    geometry, ordered = series_geometry([ds])
    assert geometry.frames == tuple(
        SourceFrame(ds.SOPInstanceUID, order.index(index) + 1) for index in range(6)
    )
    positions = [header.ImagePositionPatient for header in ordered]
    assert positions == [header.ImagePositionPatient for header in headers]


def test_frames_of_several_instances_make_one_volume(tmp_path):
    headers = phantoms.as_modality(mr_headers(OBLIQUE, SHAPE), "PT")
    values = np.arange(6.0)[:, None, None] * np.ones(SHAPE)
    values *= np.array([float(ds.RescaleSlope) for ds in headers])[:, None, None]
    sop_class = phantoms.ENHANCED["PT"]
    paths = [
        phantoms.write_multi_frame(headers[part], values[part], tmp_path / f"{part.start}.dcm", sop_class)
        for part in (slice(3, 6), slice(0, 3))
    ]
    assert np.allclose(read_volume(paths).array, values)


@pytest.mark.parametrize("groups", [0, 5])
def test_frames_that_do_not_all_tell_their_places_are_refused(groups):
    ds = enhanced(mr_headers(OBLIQUE, SHAPE))
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:groups]
    with pytest.raises(Refused) as caught:
        series_geometry([ds])
    assert caught.value.code == "MULTI_FRAME"
    assert caught.value.reason == f"one instance has 6 frames and tells the places of {groups}"


def test_facts_of_a_multi_frame_instance_are_those_of_its_first_frame():
    facts = series_facts(enhanced(mr_headers(OBLIQUE, SHAPE)), 1)
    assert (facts["frames"], facts["echo_time"], facts["pixel_spacing"]) == (6, 2.98, 1.1)


def test_a_real_enhanced_series_is_read_by_phase(shared_data):
    paths = sorted((shared_data / "enhanced").glob("siemens-xa10-6_*.dcm"))
    with pytest.raises(Refused) as caught:
        series_geometry(read_headers(paths))
    assert caught.value.reason == "4 phases: 1, 2, 3 and 4; the pipeline does not say which one it takes"
    volume = read_volume(paths, lambda stack: stack["temporal_position"] == 3)
    alone = read_volume(paths[2:3])
    assert (volume.geometry.stack, alone.geometry.stack) == (3, 0)
    assert np.array_equal(volume.array, alone.array)
    assert volume.geometry.frames == alone.geometry.frames
