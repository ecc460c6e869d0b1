"""An ellipsoid at a known place is found there again in the Segmentation, whatever the series was like."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    HTJ2K,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from scipy.spatial.transform import Rotation

from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers
from dicomnode.imaging.shear import deskew, reskew
from dicomnode.imaging.volume import read_volume
from dicomnode.model.profile import Profile
from dicomnode.results.seg import encode_seg
from tests.imaging import phantoms
from tests.imaging.builders import AXIAL, OBLIQUE, ORIENTATIONS, mr_headers

SHAPE, SPACING = (20, 48, 44), (0.9, 1.0, 1.8)
SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2K,
]
TILTS = {"up": 18.5, "down": -25.0, "slight": 1.0}
NAMES = {syntax: syntax.name for syntax in SYNTAXES}


def slices(orientation=AXIAL, slant=(0.0, 0.0)):
    return mr_headers(orientation, SHAPE, SPACING, slant=slant)


def found_by_threshold(paths):
    """What a network that says "bright" finds, on the grid of the source; it sees an upright volume."""
    volume = read_volume(paths)
    straight = deskew(volume)
    labels = (straight.array > phantoms.LEVEL).astype(np.uint8) * 2
    return Findings(reskew(labels, volume.geometry), volume.geometry)


def require_in_place(ellipsoid, paths, manifest, provenance):
    """Segment it, encode it, read that with pydicom alone, and compare in mm and ml."""
    findings = found_by_threshold(paths)
    headers = series_geometry(read_headers(paths))[1]
    encoded = encode_seg(findings, headers, manifest, provenance, Profile())
    points = marked_places(pydicom.dcmread(io.BytesIO(encoded.data)))
    row, column, between = findings.geometry.spacing
    assert np.linalg.norm(points.mean(axis=0) - ellipsoid.centre) < 0.5 * min(row, column, between)
    assert len(points) * row * column * between / 1000 == pytest.approx(ellipsoid.volume_ml, rel=0.01)


def marked_places(seg):
    """LPS mm of each pixel of segment 1, from nothing but the Segmentation."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    found = []
    for group, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber != 1:
            continue
        plane = pydicom.Dataset()
        plane.Rows, plane.Columns = seg.Rows, seg.Columns
        plane.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
        plane.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        plane.ImagePositionPatient = group.PlanePositionSequence[0].ImagePositionPatient
        found.append(phantoms.pixel_places(plane)[pixels == 1])
    return np.concatenate(found)


@pytest.mark.parametrize("reverse", [False, True], ids=["in order", "reversed"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_it_is_in_place_in_every_orientation(orientation, reverse, tmp_path, manifest, provenance):
    headers = slices(ORIENTATIONS[orientation])
    ellipsoid = phantoms.ellipsoid_in(headers)
    paths = phantoms.write(headers, phantoms.draw(headers, ellipsoid), tmp_path)
    require_in_place(ellipsoid, paths[::-1] if reverse else paths, manifest, provenance)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), tilt=st.floats(-30, 30), skew=st.floats(-10, 10))
def test_it_is_in_place_on_any_grid(seed, tilt, skew, tmp_path_factory, manifest, provenance):
    turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    slant = tuple(SPACING[2] * np.tan(np.radians([tilt, skew])))
    headers = slices(turn[:, :2].T, slant)
    ellipsoid = phantoms.ellipsoid_in(headers)
    paths = phantoms.write(headers, phantoms.draw(headers, ellipsoid), tmp_path_factory.mktemp("any"))
    require_in_place(ellipsoid, paths, manifest, provenance)


@pytest.mark.parametrize("degrees", TILTS.values(), ids=TILTS)
def test_it_is_in_place_under_a_tilted_gantry(degrees, tmp_path, manifest, provenance):
    headers = slices(slant=(SPACING[2] * np.tan(np.radians(degrees)), 0.0))
    ellipsoid = phantoms.ellipsoid_in(headers)
    paths = phantoms.write(headers, phantoms.draw(headers, ellipsoid), tmp_path)
    require_in_place(ellipsoid, paths, manifest, provenance)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=NAMES.values())
def test_it_is_in_place_in_every_transfer_syntax(syntax, tmp_path, manifest, provenance):
    headers = slices(OBLIQUE)
    ellipsoid = phantoms.ellipsoid_in(headers)
    paths = phantoms.write(headers, phantoms.draw(headers, ellipsoid), tmp_path, syntax)
    require_in_place(ellipsoid, paths, manifest, provenance)


@pytest.mark.parametrize("dtype", ["u2", "i2", "u1", "f4", "f8"])
@pytest.mark.parametrize("modality", phantoms.SINGLE_FRAME)
def test_it_is_in_place_in_every_modality_and_kind_of_pixel(modality, dtype, tmp_path, manifest, provenance):
    headers = phantoms.as_modality(slices(OBLIQUE), modality)
    ellipsoid = phantoms.ellipsoid_in(headers)
    values = phantoms.draw(headers, ellipsoid)
    if dtype == "u1":
        for ds in headers:
            ds.RescaleSlope, ds.RescaleIntercept = "10", "-100"
    paths = phantoms.write(headers, values, tmp_path, dtype=dtype)
    require_in_place(ellipsoid, paths, manifest, provenance)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=NAMES.values())
def test_it_is_in_place_in_frames_of_every_transfer_syntax(syntax, tmp_path, manifest, provenance):
    headers = slices(OBLIQUE)
    ellipsoid = phantoms.ellipsoid_in(headers)
    values = phantoms.draw(headers, ellipsoid)
    sop_class = phantoms.ENHANCED["MR"]
    path = phantoms.write_multi_frame(headers, values, tmp_path / "a.dcm", sop_class, syntax)
    require_in_place(ellipsoid, [path], manifest, provenance)


@pytest.mark.parametrize(
    ("modality", "sop_class"), [*phantoms.ENHANCED.items(), ("CT", phantoms.LEGACY)], ids=lambda each: each
)
def test_it_is_in_place_in_frames_of_every_modality(modality, sop_class, tmp_path, manifest, provenance):
    headers = phantoms.as_modality(slices(OBLIQUE), modality)
    ellipsoid = phantoms.ellipsoid_in(headers)
    values = phantoms.draw(headers, ellipsoid)
    path = phantoms.write_multi_frame(headers, values, tmp_path / "a.dcm", sop_class)
    require_in_place(ellipsoid, [path], manifest, provenance)
    assert read_volume([path]).array.max() == pytest.approx(phantoms.INSIDE, rel=1e-3)
