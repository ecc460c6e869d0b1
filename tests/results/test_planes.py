"""A picture shows the patient from where a reader expects to stand, whatever the acquisition was."""

from __future__ import annotations

import numpy as np
import pytest

from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.preview import preview_of
from dicomnode.results.planes import turned_planes
from tests.imaging.builders import ORIENTATIONS, mr_headers

SHAPE = (5, 12, 10)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("turn", [1, -1])
def test_planes_run_to_the_left_to_posterior_and_to_the_feet(orientation, turn):
    along_row, along_column = ORIENTATIONS[orientation]
    headers = mr_headers((tuple(turn * part for part in along_row), along_column), SHAPE)
    geometry, _ = series_geometry(headers)
    places = np.stack(np.indices(SHAPE), axis=-1) @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    labels = np.ones(SHAPE, np.uint8)
    views = {"axial": (1, 1, 0, 1), "coronal": (2, -1, 0, 1), "sagittal": (2, -1, 1, 1)}
    for axis in range(3):
        coordinate = places[..., axis].astype(np.float32)
        for plane in turned_planes(preview_of(coordinate, labels), labels, geometry):
            down, down_sign, along, along_sign = views[plane.title]
            if axis == down:
                assert (np.diff(plane.image, axis=0) * down_sign > 0).all(), plane.title
            if axis == along:
                assert (np.diff(plane.image, axis=1) * along_sign > 0).all(), plane.title


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mark_is_drawn_on_the_pixel_that_it_marks(orientation):
    geometry, _ = series_geometry(mr_headers(ORIENTATIONS[orientation], SHAPE))
    image = np.zeros(SHAPE, np.float32)
    image[2, 3, 7] = 1
    point = np.array([[2.0, 3.0, 7.0]])
    preview = preview_of(image, np.zeros(SHAPE, np.uint8), [point])
    planes = turned_planes(preview, np.zeros(SHAPE, np.uint8), geometry, [("nodule", point)])
    marked = [(plane, points) for plane in planes for _, points in plane.points]
    assert len(marked) == 1
    plane, points = marked[0]
    assert plane.image[tuple(points[0].astype(int))] == 1


def test_the_planes_go_through_most_of_what_was_found():
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2:6, 3] = 1
    labels[1, 4, 3:7] = 1
    preview = preview_of(np.zeros(SHAPE, np.float32), labels)
    assert preview.index == (1, 4, 3)
    assert [plane.shape for plane in preview.planes] == [(12, 10), (5, 10), (5, 12)]
