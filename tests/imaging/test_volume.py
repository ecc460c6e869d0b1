"""A series becomes an array of modality values, and goes to RAS and back."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from dicomnode.errors import Refused
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers, read_instances
from dicomnode.imaging.pixels import StoredFrames, to_modality_values
from dicomnode.imaging.volume import from_xyz, read_volume, to_ras_xyz
from tests.imaging.builders import OBLIQUE, mr_headers, write_series

LOSSLESS = [
    "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
    "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
    "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
    "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
    "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
    "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
    "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1",
    "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2",
    "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_each_slice_has_its_own_rescale_and_its_own_place(dtype, tmp_path):
    headers = mr_headers(OBLIQUE)
    for index, ds in enumerate(headers):
        ds.RescaleSlope, ds.RescaleIntercept = str(index + 1), "-1000"
    low = np.iinfo(dtype).min
    frames = np.random.default_rng(0).integers(low, low + 30000, (5, 12, 10)).astype(dtype)
    volume = read_volume(write_series(headers, frames, tmp_path)[::-1])
    expected = frames.astype(np.float64) * np.arange(1, 6)[:, None, None] - 1000
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, expected.astype(np.float32))


def test_a_slice_that_cannot_be_decoded_is_named_by_its_place(tmp_path):
    headers = mr_headers()
    paths = write_series(headers, np.zeros((5, 12, 10), np.uint16), tmp_path)
    paths[3].write_bytes(paths[3].read_bytes()[:-100])
    with pytest.raises(Refused, match="slice 4 of 5 cannot be decoded") as caught:
        read_volume(paths)
    assert caught.value.code == "PIXELS_UNREADABLE"


def test_a_volume_for_inverted_display_keeps_its_values(tmp_path):
    headers = mr_headers()
    for ds in headers:
        ds.PhotometricInterpretation = "MONOCHROME1"
    frames = np.arange(600, dtype=np.uint16).reshape(5, 12, 10)
    assert np.array_equal(read_volume(write_series(headers, frames, tmp_path)).array, frames)


def test_bits_above_those_stored_are_no_part_of_a_value(tmp_path):
    headers = mr_headers()
    frames = np.random.default_rng(0).integers(0, 4096, (5, 12, 10)).astype(np.uint16)
    paths = write_series(headers, frames | 0x3000, tmp_path)
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.BitsStored, ds.HighBit = 12, 11
        ds.save_as(path)
    assert np.array_equal(read_volume(paths).array, frames)


def test_a_modality_lut_is_looked_up(tmp_path):
    headers = mr_headers()
    for ds in headers:
        lut = pydicom.Dataset()
        lut.LUTDescriptor, lut.ModalityLUTType = [4, 0, 16], "US"
        lut.LUTData = np.array([7, 70, 700, 7000], "<u2").tobytes()
        lut["LUTData"].VR = "OW"
        ds.ModalityLUTSequence = [lut]
    paths = write_series(headers, np.full((5, 12, 10), 2, np.uint16), tmp_path)
    assert set(np.unique(read_volume(paths).array)) == {700}


def test_an_instance_without_pixels_cannot_be_decoded(tmp_path):
    paths = write_series(mr_headers(), np.zeros((5, 12, 10), np.uint16), tmp_path)
    ds = pydicom.dcmread(paths[0])
    del ds.PixelData
    ds.save_as(paths[0])
    with pytest.raises(Refused, match=r"slice 1 of 5 cannot be decoded \(ValueError\)"):
        read_volume(paths)


def test_what_is_no_dicom_file_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"words" * 100)
    with pytest.raises(Refused) as caught:
        read_headers([tmp_path / "a"])
    assert caught.value.code == "NOT_DICOM"


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_lossless_transfer_syntax_gives_the_same_values(name, shared_data):
    folder = shared_data / "codecs"
    assert np.array_equal(
        values_of(folder / f"CTImage_{name}.dcm"), values_of(folder / "CTImage_original.dcm")
    )


def values_of(path):
    (instance,) = read_instances([path])
    out = np.empty((instance.ds.Rows, instance.ds.Columns), np.float32)
    to_modality_values(StoredFrames(instance).decode(None), instance.ds, out)
    return out


def test_a_voxel_keeps_its_place_in_ras_on_an_oblique_grid():
    geometry, _ = series_geometry(mr_headers(OBLIQUE))
    array = np.arange(5 * 12 * 10).reshape(5, 12, 10)
    xyz, affine = to_ras_xyz(array, geometry)
    assert xyz[7, 9, 3] == array[3, 9, 7]
    assert np.allclose(affine @ [7, 9, 3, 1], [*(geometry.lps_of((3, 9, 7)) * [-1, -1, 1]), 1])


def test_the_way_to_ras_and_back_is_exact():
    geometry, _ = series_geometry(mr_headers(OBLIQUE))
    array = np.random.default_rng(0).integers(0, 9, (5, 12, 10)).astype(np.uint8)
    xyz, _ = to_ras_xyz(array, geometry)
    assert np.shares_memory(xyz, array)
    assert np.array_equal(from_xyz(xyz, geometry), array)
    with pytest.raises(ValueError, match="grid"):
        from_xyz(array, geometry)
