"""Counting and finding labels quickly gives what numpy and scipy give when they look at everything."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from dicomnode.imaging.labels import boxes_of, voxel_counts

LABELS = arrays(
    np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.sampled_from([0, 0, 0, 1, 7, 255])
)


@given(LABELS)
def test_every_label_has_its_voxels_and_the_smallest_box_around_them(labels):
    assert voxel_counts(labels).tolist() == np.bincount(labels.ravel(), minlength=256).tolist()
    assert boxes_of(labels) == ndimage.find_objects(labels, max_label=255)
