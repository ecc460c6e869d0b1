"""A Segmentation of any kind, from any source, says of each voxel what the label map says of it."""

from __future__ import annotations

import dataclasses
import io
import json
from itertools import pairwise

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import RLELossless

from dicomnode.errors import GateFailed
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import series_geometry
from dicomnode.model.profile import Profile
from dicomnode.results.conformance import dciodvfy_problems, find_dciodvfy
from dicomnode.results.frame_groups import pixel_element
from dicomnode.results.gate_maps import compare_fractional
from dicomnode.results.gate_masks import compare_masks
from dicomnode.results.multiframe import series_number
from dicomnode.results.seg import LABEL_MAP_SEGMENTATION_STORAGE, encode_seg
from dicomnode.results.seg_fractional import encode_fractional
from dicomnode.results.seg_pixels import binary_frames, label_frames, run_lengths
from tests.conftest import NOT_RUN_HERE
from tests.imaging.builders import mr_headers
from tests.readers.tools import dcmqi_masks
from tests.results.sources import SOURCES, VOLUMES, by_name, manifest_of_maps, source

KINDS = {
    "binary": Profile(),
    "omitted": Profile(omit_empty_frames=True),
    "labelmap": Profile(segmentation="LABELMAP"),
    "labelmap, omitted": Profile(segmentation="LABELMAP", omit_empty_frames=True),
}


def read(encoded):
    return pydicom.dcmread(io.BytesIO(encoded.data))


def saved(ds):
    """The data set as a file holds it."""
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()))


def hollow(findings):
    """The same findings with slices on which a segment, or nothing at all, lies."""
    labels = findings.labels.copy()
    labels[1:3][labels[1:3] == 2] = 0
    labels[3] = 0
    return dataclasses.replace(findings, labels=labels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SOURCES)
def test_a_segmentation_conforms_and_passes_the_gate_whatever_its_source(name, kind, manifest, provenance):
    if find_dciodvfy() is None:
        pytest.skip(f"{NOT_RUN_HERE}dciodvfy")
    findings, headers = source(name)
    findings = findings if name == "projection" else hollow(findings)
    encoded = encode_seg(findings, headers, manifest, provenance, KINDS[kind])
    compare_masks(read(encoded), findings, headers, manifest)
    assert dciodvfy_problems(encoded.data) == []


@pytest.mark.parametrize("name", SOURCES)
def test_a_fractional_segmentation_conforms_and_passes_the_gate(name, manifest, provenance):
    if find_dciodvfy() is None:
        pytest.skip(f"{NOT_RUN_HERE}dciodvfy")
    findings, headers = source(name)
    manifest = manifest_of_maps(manifest)
    of = by_name(manifest, "chance")
    encoded = encode_fractional(findings, of, headers, manifest, provenance)
    compare_fractional(read(encoded), findings, of, headers, manifest)
    assert dciodvfy_problems(encoded.data) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", VOLUMES)
def test_highdicom_reads_the_label_map_on_its_source(name, kind, manifest, provenance):
    findings, headers = source(name)
    findings = hollow(findings)
    encoded = encode_seg(findings, headers, manifest, provenance, KINDS[kind])
    seg = highdicom.seg.segread(io.BytesIO(encoded.data))
    frames = findings.geometry.frames
    options = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    if frames[0].frame is None:
        seen = seg.get_pixels_by_source_instance([each.SOPInstanceUID for each in frames], **options)
    else:
        numbers = [each.frame for each in frames]
        seen = seg.get_pixels_by_source_frame(frames[0].SOPInstanceUID, numbers, **options)
    expected = np.zeros_like(findings.labels)
    for number, segment in enumerate(manifest.segment, 1):
        expected[findings.labels == segment.label] = number
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("name", VOLUMES)
def test_highdicom_reads_the_probabilities_on_their_source(name, manifest, provenance):
    findings, headers = source(name)
    manifest = manifest_of_maps(manifest)
    encoded = encode_fractional(findings, by_name(manifest, "chance"), headers, manifest, provenance)
    seg = highdicom.seg.segread(io.BytesIO(encoded.data))
    frames = findings.geometry.frames
    if frames[0].frame is None:
        seen = seg.get_pixels_by_source_instance([each.SOPInstanceUID for each in frames])
    else:
        seen = seg.get_pixels_by_source_frame(frames[0].SOPInstanceUID, [each.frame for each in frames])
    assert np.abs(seen[..., 0] - findings.maps["chance"]).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("name", ["oblique", "sagittal", "CT"])
def test_dcmqi_finds_each_segment_where_it_lies(name, kind, tmp_path, manifest, provenance):
    findings, headers = source(name)
    file = tmp_path / "seg.dcm"
    file.write_bytes(encode_seg(findings, headers, manifest, provenance, KINDS[kind]).data)
    masks = dcmqi_masks(file)
    by_title = {mask.attributes["SegmentLabel"]: mask for mask in masks}
    for segment in manifest.segment:
        mask = by_title[segment.title].on_grid(findings.geometry.affine, findings.geometry.shape)
        np.testing.assert_array_equal(mask, findings.labels == segment.label)


# What differs on purpose: names, times, the order of frames, and who is told to have made it.
_OURS = {
    *("SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ContentDescription"),
    *("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime"),
    *("SeriesDate", "SeriesTime"),
    *("ContributingEquipmentSequence", "DimensionOrganizationSequence", "DimensionOrganizationType"),
    # Type 2 (PS3.3 10.9), and highdicom leaves it out.
    "ContentCreatorName",
    *("ContentLabel", "PatientAge", "PixelData", "PerFrameFunctionalGroupsSequence"),
}
_NAMES_OF_DIMENSIONS = "DimensionOrganizationUID"


def _without_names(ds):
    plain = ds.to_json_dict()
    for keyword in _OURS:
        plain.pop(f"{pydicom.datadict.tag_for_keyword(keyword):08X}", None)
    for item in plain["00209222"]["Value"]:
        item.pop(f"{pydicom.datadict.tag_for_keyword(_NAMES_OF_DIMENSIONS):08X}")
    return plain


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("name", ["oblique", "CT", "tilt"])
def test_it_is_highdicoms_in_every_attribute_that_matters(name, kind, manifest, provenance):
    findings, headers = source(name)
    ours = read(encode_seg(findings, headers, manifest, provenance, Profile(segmentation=kind)))
    numbers = np.zeros_like(findings.labels)
    for number, segment in enumerate(manifest.segment, 1):
        numbers[findings.labels == segment.label] = number
    theirs = highdicom.seg.Segmentation(
        source_images=list(headers),
        pixel_array=numbers,
        segmentation_type=kind,
        segment_descriptions=[
            highdicom.seg.SegmentDescription.from_dataset(item)
            for item in ours.SegmentSequence
            if item.SegmentNumber
        ],
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.3.4",
        instance_number=1,
        manufacturer=provenance.manufacturer,
        manufacturer_model_name=provenance.model_name,
        software_versions=provenance.software_version,
        device_serial_number=provenance.device_serial_number,
        omit_empty_frames=False,
    )
    theirs = saved(theirs)
    # highdicom gives it more digits, and none where the stack is tilted.
    between, expected = (
        ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].pop("SpacingBetweenSlices", None)
        for ds in (ours, theirs)
    )
    assert expected is None or float(between.value) == pytest.approx(float(expected.value))
    assert _without_names(ours) == _without_names(theirs)
    assert _frames(ours) == _frames(theirs)


def _frames(ds):
    """What each frame holds and says, but for the numbers of its dimensions, in an order of their own."""
    frames = []
    for item, pixels in zip(ds.PerFrameFunctionalGroupsSequence, ds.pixel_array, strict=True):
        plain = item.to_json_dict()
        plain.pop("00209111")
        frames.append((json.dumps(plain, sort_keys=True), pixels.tobytes()))
    return sorted(frames)


@pytest.mark.parametrize("name", ["enhanced CT", "enhanced MR"])
def test_a_multi_frame_source_is_referred_to_once_and_by_frame(name, manifest, provenance):
    findings, headers = source(name)
    ds = read(encode_seg(findings, headers, manifest, provenance, Profile()))
    (instance,) = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert instance.ReferencedSOPInstanceUID == headers[0].SOPInstanceUID
    assert len(ds.SourceImageSequence) == 1
    numbers = [
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for frame in ds.PerFrameFunctionalGroupsSequence
    ]
    assert numbers == [each.frame for each in findings.geometry.frames] * 2


def test_of_a_projection_it_has_a_source_and_no_place(manifest, provenance):
    findings, headers = source("projection")
    for profile in KINDS.values():
        ds = read(encode_seg(findings, headers, manifest, provenance, profile))
        assert "FrameOfReferenceUID" not in ds
        assert len(ds.SharedFunctionalGroupsSequence[0]) == 0
        for frame in ds.PerFrameFunctionalGroupsSequence:
            assert "PlanePositionSequence" not in frame
            (image,) = frame.DerivationImageSequence[0].SourceImageSequence
            assert image.ReferencedSOPInstanceUID == headers[0].SOPInstanceUID


def test_a_tilted_stack_keeps_the_planes_of_its_source(manifest, provenance):
    findings, headers = source("tilt")
    ds = read(encode_seg(findings, headers, manifest, provenance, Profile(segmentation="LABELMAP")))
    positions = [
        frame.PlanePositionSequence[0].ImagePositionPatient for frame in ds.PerFrameFunctionalGroupsSequence
    ]
    assert positions == [header.ImagePositionPatient for header in headers]


def test_many_slices_lie_on_their_source_to_a_millionth_of_a_mm(manifest, provenance):
    headers = mr_headers(shape=(384, 4, 4), spacing=(1.0, 1.0, 0.666666686534882))
    geometry, headers = series_geometry(headers)
    findings = Findings(np.ones(geometry.shape, np.uint8), geometry)
    ds = read(encode_seg(findings, headers, manifest, provenance, Profile()))
    volume = highdicom.seg.Segmentation.from_dataset(ds).get_volume()
    assert abs(volume.spacing[0] - geometry.spacing[2]) * 383 < 1e-6


def test_what_has_no_voxel_has_one_empty_frame_where_frames_are_omitted(manifest, provenance):
    findings, headers = source("axial")
    nothing = dataclasses.replace(findings, labels=np.zeros_like(findings.labels))
    for kind in ("omitted", "labelmap, omitted"):
        encoded = encode_seg(nothing, headers, manifest, provenance, KINDS[kind])
        compare_masks(read(encoded), nothing, headers, manifest)
        assert read(encoded).NumberOfFrames == 1
        assert not read(encoded).pixel_array.any()


def test_only_frames_with_a_voxel_are_there_where_the_others_are_omitted(manifest, provenance):
    findings, headers = source("axial")
    findings = hollow(findings)
    ds = read(encode_seg(findings, headers, manifest, provenance, Profile(omit_empty_frames=True)))
    assert ds.pixel_array.any(axis=(1, 2)).all()
    contents = [item.FrameContentSequence[0] for item in ds.PerFrameFunctionalGroupsSequence]
    assert [tuple(content.DimensionIndexValues) for content in contents] == [
        (1, 1),
        (1, 5),
        (2, 1),
        (2, 2),
        (2, 3),
        (2, 5),
    ]


def test_a_label_map_is_in_run_lengths_where_that_is_smaller(manifest, provenance):
    findings, headers = source("axial")
    noise = encode_seg(findings, headers, manifest, provenance, KINDS["labelmap"])
    assert noise.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    geometry = dataclasses.replace(findings.geometry, shape=(5, 120, 100))
    block = np.zeros(geometry.shape, np.uint8)
    block[1:4, 20:60, 30:50] = 5
    for ds in headers:
        ds.Rows, ds.Columns = 120, 100
    findings = dataclasses.replace(findings, labels=block, geometry=geometry)
    smooth = encode_seg(findings, headers, manifest, provenance, KINDS["labelmap"])
    assert smooth.TransferSyntaxUID == RLELossless
    assert smooth.SOPClassUID == LABEL_MAP_SEGMENTATION_STORAGE
    assert len(smooth.data) < block.size / 4


labels_of_any_size = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 3, 200]),
)


@settings(deadline=None)
@given(labels=labels_of_any_size, omit=st.booleans())
def test_bits_of_any_size_come_back_by_pydicom(labels, omit):
    frames, bits = binary_frames(labels, [200, 7, 3], omit_empty=omit)
    read_back = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    read_back = read_back[: len(frames) * labels[0].size].reshape(len(frames), *labels.shape[1:])
    seen = np.zeros_like(labels)
    for (plane, number), mask in zip(frames, read_back, strict=True):
        seen[plane][mask == 1] = [200, 7, 3][number - 1]
        assert mask.any() or not omit or not labels.any()
    np.testing.assert_array_equal(seen, labels)
    assert all(before < after for before, after in pairwise((number, plane) for plane, number in frames))


@settings(deadline=None)
@given(labels=labels_of_any_size, repeated=st.integers(1, 300))
def test_run_lengths_of_any_size_come_back_by_pydicom(labels, repeated):
    labels = np.repeat(labels, repeated, axis=2)
    _, numbers = label_frames(labels, [3, 200], omit_empty=False)
    encapsulated = run_lengths(numbers)
    if encapsulated is None:
        return
    assert all(len(frame) % 2 == 0 for frame in generate_frames(encapsulated, number_of_frames=len(labels)))
    seen, _ = get_decoder(RLELossless).as_array(
        encapsulated,
        rows=labels.shape[1],
        columns=labels.shape[2],
        number_of_frames=len(labels),
        samples_per_pixel=1,
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        pixel_keyword="PixelData",
        transfer_syntax_uid=RLELossless,
    )
    np.testing.assert_array_equal(seen.reshape(labels.shape), numbers)


def test_more_than_an_element_can_hold_is_refused_before_it_is_written():
    # Zeros that nobody writes to take no memory.
    with pytest.raises(GateFailed, match="more than an instance can hold"):
        pixel_element(0x0010, "OB", np.zeros(2**32, np.uint8).data)


def test_each_map_has_a_series_number_of_its_own(manifest, provenance):
    declared = manifest_of_maps(manifest).model_dump()
    others = [{**each, "name": f"other_{each['name']}"} for each in declared["map"]]
    declared["map"] = [*declared["map"], *others]
    declared = type(manifest).model_validate(declared)
    numbers = [series_number(provenance, declared, each) for each in declared.map]
    assert len({*numbers, 9100}) == 7


def test_a_map_that_holds_no_probabilities_is_refused(manifest, provenance):
    findings, headers = source("axial")
    manifest = manifest_of_maps(manifest)
    for wrong in (1.01, -0.01, np.nan):
        values = np.full(findings.geometry.shape, wrong, np.float32)
        changed = dataclasses.replace(findings, maps={"chance": values})
        with pytest.raises(GateFailed, match="from 0 to 1"):
            encode_fractional(changed, by_name(manifest, "chance"), headers, manifest, provenance)


def _flip_a_pixel(ds):
    ds.PixelData = bytes([ds.PixelData[0] ^ 1]) + ds.PixelData[1:]


def _swap_sources(ds):
    first, second = (frame.DerivationImageSequence for frame in ds.PerFrameFunctionalGroupsSequence[:2])
    frames = ds.PerFrameFunctionalGroupsSequence
    frames[0].DerivationImageSequence, frames[1].DerivationImageSequence = second, first


def _move(ds):
    ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[0] += 0.01


def _refer_twice(ds):
    instances = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    instances.append(instances[0])


def _widen(ds):
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[0] *= 1.01


def _drop_a_frame(ds):
    ds.PerFrameFunctionalGroupsSequence.pop()


@pytest.mark.parametrize("change", [_flip_a_pixel, _swap_sources, _move, _refer_twice, _widen, _drop_a_frame])
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_the_gate_refuses_what_was_changed(kind, change, manifest, provenance):
    findings, headers = source("oblique")
    manifest = manifest_of_maps(manifest)
    of = by_name(manifest, "chance")
    if kind == "FRACTIONAL":
        encoded = encode_fractional(findings, of, headers, manifest, provenance)
        compare = lambda ds, findings, *rest: compare_fractional(ds, findings, of, *rest)  # noqa: E731
    else:
        encoded = encode_seg(findings, headers, manifest, provenance, Profile(segmentation=kind))
        compare = compare_masks
    ds = read(encoded)
    change(ds)
    again = saved(ds)
    with pytest.raises(GateFailed):
        compare(again, findings, headers, manifest)
