"""Real series are in their place: beside references of others, and when what is bright in them is encoded."""

from __future__ import annotations

import io
import json

import nibabel
import numpy as np
import pydicom
import pytest

from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers
from dicomnode.imaging.shear import deskew, reskew
from dicomnode.imaging.volume import from_xyz, read_volume, to_ras_xyz
from dicomnode.model.profile import Profile
from dicomnode.results.seg import encode_seg
from tests.imaging import phantoms
from tests.imaging.test_round_trip import marked_places

SERIES = {
    "a tilted head": ("ct-head-tilt", slice(0, 14)),
    "a chest with a frame of reference a slice": ("ct-chest-lidc", slice(0, 40)),
    "a PET": ("rt-sts/pet", slice(None)),
    "an oblique MR": ("mr-head-t1", slice(0, 40)),
    "an enhanced MR": ("enhanced", slice(2, 3)),
}


@pytest.mark.parametrize(("folder", "part"), SERIES.values(), ids=SERIES)
def test_what_is_bright_is_encoded_where_it_lies(folder, part, shared_data, manifest, provenance):
    paths = sorted((shared_data / folder).glob("*.dcm"))[part]
    volume = read_volume(paths)
    level = float(np.percentile(volume.array, 97))
    straight = deskew(volume)
    labels = reskew((straight.array > level).astype(np.uint8) * 2, volume.geometry)
    headers = series_geometry(read_headers(paths))[1]
    seg = encode_seg(Findings(labels, volume.geometry), headers, manifest, provenance, Profile())
    bright = np.concatenate(
        [phantoms.pixel_places(ds)[plane > level] for ds, plane in zip(headers, volume.array, strict=True)]
    )
    places = marked_places(pydicom.dcmread(io.BytesIO(seg.data)))
    assert len(places) == len(bright)
    off = np.linalg.norm(places.mean(axis=0) - bright.mean(axis=0))
    assert off < 0.5 * min(volume.geometry.spacing)


def test_reference_labels_of_an_abdomen_lie_on_the_grid_that_is_read(shared_data):
    folder = shared_data / "ct-abdomen-totalseg"
    volume = read_volume(sorted(folder.glob("*.dcm")))
    labels = _on_grid_of(volume, folder / "reference-seg.nii.gz")
    names = json.loads((folder / "reference-labels.json").read_text())
    assert labels.any()
    assert names
    inside = volume.array[labels > 0]
    assert -200 < np.median(inside) < 300
    assert np.median(volume.array[labels == 0]) < np.median(inside)


def test_reference_labels_of_a_head_lie_on_the_grid_that_is_read(shared_data):
    volume = read_volume(sorted((shared_data / "mr-head-t1").glob("*.dcm")))
    labels = _on_grid_of(volume, shared_data / "mr-head-t1-reference.nii.gz")
    assert labels.any()
    assert np.median(volume.array[labels > 0]) > 2 * np.median(volume.array[labels == 0])


def _on_grid_of(volume, file):
    """The labels of a NIfTI file at the places of the volume's voxels, nearest neighbour."""
    image = nibabel.load(file)
    _, affine = to_ras_xyz(volume.array, volume.geometry)
    shape = volume.array.shape[::-1]
    index = np.indices(shape).reshape(3, -1)
    to_labels = np.linalg.inv(image.affine) @ affine
    there = np.rint(to_labels[:3, :3] @ index + to_labels[:3, 3:]).astype(int)
    within = ((there >= 0) & (there < np.array(image.shape)[:, None])).all(axis=0)
    found = np.zeros(index.shape[1], np.uint8)
    found[within] = np.asarray(image.dataobj).astype(np.uint8)[tuple(there[:, within])]
    return from_xyz(found.reshape(shape), volume.geometry)
