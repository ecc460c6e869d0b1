"""Derived images are a series like their source's, in its place, whose values are those of the map."""

from __future__ import annotations

import copy
import dataclasses
import io

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.errors import GateFailed
from dicomnode.imaging.volume import read_volume
from dicomnode.results.conformance import dciodvfy_problems, find_dciodvfy
from dicomnode.results.derived import encode_derived
from dicomnode.results.gate_derived import compare_derived
from tests.conftest import NOT_RUN_HERE
from tests.results.sources import VOLUMES, by_name, manifest_of_maps, source

UNITS = {
    "CT": ("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "enhanced CT": ("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "PET": ("Bq/ml", "UCUM", "Becquerels/milliliter"),
}


def derived(name, manifest, provenance, change=lambda values: values):
    """Findings, headers, manifest, and the images of the map `clean`."""
    findings, headers = source(name)
    values = change(findings.maps["clean"]).astype(np.float32)
    findings = dataclasses.replace(findings, maps={"clean": values})
    manifest = manifest_of_maps(manifest, UNITS.get(name, ("1", "UCUM", "no units")))
    return (
        findings,
        headers,
        manifest,
        encode_derived(findings, by_name(manifest, "clean"), headers, manifest, provenance),
    )


def read(results):
    return [pydicom.dcmread(io.BytesIO(each.data)) for each in results]


def compare(datasets, findings, headers, manifest):
    compare_derived(datasets, findings, by_name(manifest, "clean"), headers, manifest)


@pytest.mark.parametrize("name", VOLUMES)
def test_they_conform_and_pass_the_gate_whatever_their_source(name, manifest, provenance):
    if find_dciodvfy() is None:
        pytest.skip(f"{NOT_RUN_HERE}dciodvfy")
    findings, headers, manifest, results = derived(name, manifest, provenance)
    compare(read(results), findings, headers, manifest)
    for result in (results[0], results[-1]):
        assert dciodvfy_problems(result.data) == []


@pytest.mark.parametrize("name", [name for name in VOLUMES if name != "tilt"])
def test_highdicom_reads_them_as_the_volume_that_was_computed(name, manifest, provenance):
    findings, _, _, results = derived(name, manifest, provenance)
    volume = highdicom.get_volume_from_series(
        [highdicom.Image.from_dataset(ds) for ds in read(results)], apply_real_world_transform=True
    )
    values, affine = findings.maps["clean"], findings.geometry.affine
    step = (values.max() - values.min()) / 60000
    for index in ((0, 0, 0), (4, 11, 9), (1, 7, 3)):
        there = np.linalg.inv(volume.affine) @ affine @ [*index, 1]
        at = tuple(np.rint(there[:3]).astype(int))
        assert abs(volume.array[at] - values[index]) <= step
        assert np.abs(there[:3] - at).max() < 1e-3


@pytest.mark.parametrize("name", ["CT", "PET"])
def test_we_read_them_as_a_source_of_the_next_pipeline(name, tmp_path, manifest, provenance):
    findings, _, _, results = derived(name, manifest, provenance)
    for number, result in enumerate(results):
        (tmp_path / f"{number}.dcm").write_bytes(result.data)
    volume = read_volume(sorted(tmp_path.glob("*.dcm")))
    values = findings.maps["clean"]
    assert np.abs(volume.array - values).max() <= np.abs(values).max() / 32767
    np.testing.assert_allclose(volume.geometry.affine, findings.geometry.affine, atol=1e-6)


def test_they_are_one_new_series_of_the_same_study_and_refer_to_their_sources(manifest, provenance):
    findings, headers, _, results = derived("enhanced MR", manifest, provenance)
    datasets = read(results)
    (series,) = {ds.SeriesInstanceUID for ds in datasets}
    assert series != headers[0].SeriesInstanceUID
    assert {ds.StudyInstanceUID for ds in datasets} == {headers[0].StudyInstanceUID}
    assert {ds.PatientName for ds in datasets} == {headers[0].PatientName}
    assert [ds.InstanceNumber for ds in datasets] == [1, 2, 3, 4, 5]
    told = [
        (ds.SourceImageSequence[0].ReferencedSOPInstanceUID, ds.SourceImageSequence[0].ReferencedFrameNumber)
        for ds in datasets
    ]
    assert told == [(each.SOPInstanceUID, each.frame) for each in findings.geometry.frames]
    assert {ds.ImageType[0] for ds in datasets} == {"DERIVED"}


def test_whole_numbers_come_back_as_they_were(manifest, provenance):
    findings, _, _, results = derived("CT", manifest, provenance, np.rint)
    for ds, values in zip(read(results), findings.maps["clean"], strict=True):
        assert (ds.RescaleSlope, ds.RescaleIntercept) == (1, 0)
        np.testing.assert_array_equal(ds.pixel_array, values)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-20, 1e20), offset=st.floats(-1e6, 1e6), name=st.sampled_from(["axial", "CT", "PET"])
)
def test_values_of_any_size_come_back_within_half_a_step(scale, offset, name, manifest, provenance):
    findings, headers, manifest, results = derived(
        name, manifest, provenance, lambda values: (values + offset) * scale
    )
    compare(read(results), findings, headers, manifest)


def test_a_map_of_one_value_passes_the_gate(manifest, provenance):
    findings, headers, manifest, results = derived(
        "PET", manifest, provenance, lambda values: np.full_like(values, 0.3)
    )
    compare(read(results), findings, headers, manifest)


def test_the_same_job_encodes_to_the_same_bytes(manifest, provenance):
    findings, headers, manifest, results = derived("axial", manifest, provenance)
    again = encode_derived(findings, by_name(manifest, "clean"), headers, manifest, provenance)
    assert [each.data for each in results] == [each.data for each in again]


def test_the_source_is_left_as_it_was(manifest, provenance):
    findings, headers, manifest, _ = derived("PET", manifest, provenance)
    before = copy.deepcopy(headers)
    encode_derived(findings, by_name(manifest, "clean"), headers, manifest, provenance)
    assert list(headers) == list(before)


def test_values_that_are_not_finite_projections_and_unknown_units_are_refused(manifest, provenance):
    with pytest.raises(GateFailed, match="not finite"):
        derived("CT", manifest, provenance, lambda values: values * np.nan)
    with pytest.raises(GateFailed, match="CT, MR and PET alone"):
        derived("projection", manifest, provenance)
    findings, headers = source("PET")
    manifest = manifest_of_maps(manifest, ("ms", "UCUM", "millisecond"))
    with pytest.raises(GateFailed, match="no unit of a PET image"):
        encode_derived(findings, by_name(manifest, "clean"), headers, manifest, provenance)


def _change_a_value(ds):
    ds.PixelData = b"\0\x10" + ds.PixelData[2:]


def _move(ds):
    ds.ImagePositionPatient[0] += 0.01


def _other_scale(ds):
    ds.RescaleSlope *= 2


def _other_source(ds):
    ds.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def _other_series(ds):
    ds.SeriesInstanceUID = "1.2.3"


def _other_unit(ds):
    ds.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0].CodeValue = "1"


def _original(ds):
    ds.ImageType[0] = "ORIGINAL"


@pytest.mark.parametrize(
    "change",
    [_change_a_value, _move, _other_scale, _other_source, _other_series, _other_unit, _original],
)
def test_the_gate_refuses_what_was_changed(change, manifest, provenance):
    findings, headers, manifest, results = derived("CT", manifest, provenance)
    datasets = read(results)
    change(datasets[2])
    with pytest.raises(GateFailed):
        compare(datasets, findings, headers, manifest)


def test_the_gate_refuses_images_in_another_order(manifest, provenance):
    findings, headers, manifest, results = derived("CT", manifest, provenance)
    with pytest.raises(GateFailed):
        compare(read(results)[::-1], findings, headers, manifest)
