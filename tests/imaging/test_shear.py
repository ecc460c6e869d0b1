"""A slanted stack is stood upright without a loss, and what is found in it goes back to its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.shear import deskew, reskew, reskew_points, upright
from dicomnode.imaging.volume import Volume
from tests.imaging import phantoms
from tests.imaging.builders import OBLIQUE, mr_headers

SHAPE, SPACING = (16, 40, 40), (0.8, 1.1, 2.0)


def slanted(degrees=(20.0, 0.0), orientation=OBLIQUE):
    return mr_headers(orientation, SHAPE, SPACING, slant=tuple(2.0 * np.tan(np.radians(degrees))))


angles = st.floats(-30, 30)


@settings(max_examples=25, deadline=None)
@given(tilt=angles, skew=angles)
def test_an_upright_grid_has_right_angles_and_the_planes_of_its_slices(tilt, skew):
    geometry, _ = series_geometry(slanted((tilt, skew)))
    grid = upright(geometry)
    axes = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    slight = 0.5 / (SHAPE[0] - 1)
    assert np.abs(axes.T @ axes - np.eye(3)).max() < (1e-4 if grid is not geometry else slight)
    assert (grid.spacing, grid.frames, grid.voxel_ml) == (
        geometry.spacing,
        geometry.frames,
        pytest.approx(geometry.voxel_ml),
    )


@settings(max_examples=25, deadline=None)
@given(tilt=angles, skew=angles, seed=st.integers(0, 99))
def test_a_place_is_at_most_half_a_pixel_off_within_its_slice(tilt, skew, seed):
    geometry, _ = series_geometry(slanted((tilt, skew)))
    grid = upright(geometry)
    points = np.random.default_rng(seed).integers(0, grid.shape, (20, 3)).astype(np.float64)
    for point, back in zip(points, reskew_points(points, geometry), strict=True):
        off = grid.lps_of(point) - geometry.lps_of(back)
        across, down, right = np.abs(np.linalg.solve(grid.affine[:3, :3], off))
        assert (across, max(down, right)) == (pytest.approx(0, abs=1e-3), pytest.approx(0.25, abs=0.251))


@settings(max_examples=25, deadline=None)
@given(tilt=angles, skew=angles, seed=st.integers(0, 99))
def test_labels_and_maps_go_there_and_back_unchanged(tilt, skew, seed):
    geometry, _ = series_geometry(slanted((tilt, skew)))
    values = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    straight = deskew(Volume(values, geometry))
    assert straight.array.shape == straight.geometry.shape
    assert np.array_equal(reskew(straight.array, geometry), values)
    marked = (values > 1).astype(np.uint8)
    indices = np.argwhere(deskew(Volume(marked.astype(np.float32), geometry)).array == 1)
    back = reskew_points(indices.astype(np.float64), geometry).astype(int)
    assert marked[tuple(back.T)].all()


def test_an_ellipsoid_is_where_it_was_and_as_large_in_the_upright_stack():
    headers = slanted()
    ellipsoid = phantoms.ellipsoid_in(headers)
    volume = Volume(phantoms.draw(headers, ellipsoid).astype(np.float32), series_geometry(headers)[0])
    straight = deskew(volume)
    inside = np.argwhere(straight.array > phantoms.LEVEL)
    assert np.linalg.norm(straight.geometry.lps_of(inside.mean(axis=0)) - ellipsoid.centre) < 0.4
    assert len(inside) * straight.geometry.voxel_ml == pytest.approx(ellipsoid.volume_ml, rel=0.01)
    assert straight.array.min() == volume.array.min()


def test_an_upright_stack_is_left_as_it_is():
    geometry, _ = series_geometry(mr_headers(OBLIQUE, SHAPE, SPACING))
    volume = Volume(np.zeros(SHAPE, np.float32), geometry)
    assert deskew(volume) is volume


def test_an_array_on_another_grid_is_not_put_back():
    geometry, _ = series_geometry(slanted())
    with pytest.raises(ValueError, match="grid"):
        reskew(np.zeros(SHAPE, np.uint8), geometry)
