"""A Parametric Map holds each value exactly, where it was computed, with its quantity and its unit."""

from __future__ import annotations

import dataclasses
import io

import highdicom
import numpy as np
import pydicom
import pytest

from dicomnode.errors import GateFailed
from dicomnode.results.conformance import dciodvfy_problems, find_dciodvfy
from dicomnode.results.gate_maps import compare_parametric_map
from dicomnode.results.parametric_map import encode_parametric_map
from tests.conftest import NOT_RUN_HERE
from tests.results.sources import VOLUMES, by_name, manifest_of_maps, source


def read(encoded):
    return pydicom.dcmread(io.BytesIO(encoded.data))


@pytest.fixture
def maps(manifest):
    return manifest_of_maps(manifest)


@pytest.mark.parametrize("name", VOLUMES)
def test_it_conforms_and_passes_the_gate_whatever_its_source(name, maps, provenance):
    if find_dciodvfy() is None:
        pytest.skip(f"{NOT_RUN_HERE}dciodvfy")
    findings, headers = source(name)
    of = by_name(maps, "t1")
    encoded = encode_parametric_map(findings, of, headers, maps, provenance)
    compare_parametric_map(read(encoded), findings, of, headers, maps)
    assert dciodvfy_problems(encoded.data) == []


@pytest.mark.parametrize("name", ["axial", "sagittal", "coronal", "oblique", "CT", "enhanced MR"])
def test_highdicom_reads_its_values_in_their_place(name, maps, provenance):
    findings, headers = source(name)
    encoded = encode_parametric_map(findings, by_name(maps, "t1"), headers, maps, provenance)
    image = highdicom.imread(io.BytesIO(encoded.data))
    volume = image.get_volume(apply_real_world_transform=True)
    values, affine = findings.maps["t1"], findings.geometry.affine
    for index in ((0, 0, 0), (4, 11, 9), (1, 7, 3)):
        there = np.linalg.inv(volume.affine) @ affine @ [*index, 1]
        assert volume.array[tuple(np.rint(there[:3]).astype(int))] == values[index]
        assert np.abs(there[:3] - np.rint(there[:3])).max() < 1e-3


def test_it_says_what_is_measured_and_in_what(maps, provenance):
    findings, headers = source("axial")
    ds = read(encode_parametric_map(findings, by_name(maps, "t1"), headers, maps, provenance))
    (mapping,) = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "110852"
    assert ds.SeriesDescription.startswith("RESEARCH ONLY")
    assert ds.ContentQualification == "RESEARCH"


def test_a_source_without_a_part_of_the_body_has_an_unknown_laterality(maps, provenance):
    findings, headers = source("axial")
    for ds in headers:
        del ds.BodyPartExamined
    encoded = encode_parametric_map(findings, by_name(maps, "t1"), headers, maps, provenance)
    assert read(encoded)["Laterality"].is_empty


def test_a_map_of_one_value_and_values_of_any_size_pass_the_gate(maps, provenance):
    findings, headers = source("axial")
    of = by_name(maps, "t1")
    for value in (0.0, -1e30, 1e-30, 3.4e38):
        values = np.full(findings.geometry.shape, value, np.float32)
        changed = dataclasses.replace(findings, maps={"t1": values})
        encoded = encode_parametric_map(changed, of, headers, maps, provenance)
        compare_parametric_map(read(encoded), changed, of, headers, maps)


def test_values_that_are_not_finite_and_projections_are_refused(maps, provenance):
    findings, headers = source("axial")
    endless = dataclasses.replace(findings, maps={"t1": np.full(findings.geometry.shape, np.inf, np.float32)})
    with pytest.raises(GateFailed, match="not finite"):
        encode_parametric_map(endless, by_name(maps, "t1"), headers, maps, provenance)
    findings, headers = source("projection")
    with pytest.raises(GateFailed, match="no place in the patient"):
        encode_parametric_map(findings, by_name(maps, "t1"), headers, maps, provenance)


def _change_a_value(ds):
    ds.FloatPixelData = b"\0\0\0\0" + ds.FloatPixelData[4:]


def _other_unit(ds):
    mapping = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    mapping.MeasurementUnitsCodeSequence[0].CodeValue = "ms"


def _other_quantity(ds):
    mapping = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue = "113063"


def _rescale(ds):
    ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleSlope = "2"


def _move(ds):
    ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[2] += 0.01


def _swap_sources(ds):
    frames = ds.PerFrameFunctionalGroupsSequence
    first, second = (frame.DerivationImageSequence for frame in frames[:2])
    frames[0].DerivationImageSequence, frames[1].DerivationImageSequence = second, first


def _twice_the_same_plane(ds):
    frames = ds.PerFrameFunctionalGroupsSequence
    frames[1] = frames[0]


@pytest.mark.parametrize(
    "change",
    [
        _change_a_value,
        _other_unit,
        _other_quantity,
        _rescale,
        _move,
        _swap_sources,
        _twice_the_same_plane,
    ],
)
def test_the_gate_refuses_what_was_changed(change, maps, provenance):
    findings, headers = source("oblique")
    of = by_name(maps, "t1")
    ds = read(encode_parametric_map(findings, of, headers, maps, provenance))
    change(ds)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    with pytest.raises(GateFailed):
        compare_parametric_map(pydicom.dcmread(io.BytesIO(buffer.getvalue())), findings, of, headers, maps)
