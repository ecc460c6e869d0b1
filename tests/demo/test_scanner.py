"""The demo's scanner writes a series that lies in the patient where the template does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicomnode.demo.scanner import INTENSITY_SCALE, Template, mni_template, sagittal, scan_mni


@pytest.fixture(scope="module")
def template() -> Template:
    return mni_template()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return scan_mni(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def series(files: list[Path]) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(file) for file in files]


def lps_of(ds: pydicom.Dataset, row: int, column: int) -> np.ndarray:
    """The position of a pixel's centre by the equation of PS3.3 C.7.6.2.1.1."""
    along_row, along_column = np.reshape(np.array(ds.ImageOrientationPatient, float), (2, 3))
    between_rows, between_columns = map(float, ds.PixelSpacing)
    origin = np.array(ds.ImagePositionPatient, float)
    return origin + along_row * between_columns * column + along_column * between_rows * row


def test_every_template_voxel_is_found_again_at_its_place(template, series):
    rebuilt = np.zeros_like(template.voxels)
    to_voxel = np.linalg.inv(template.affine)
    for ds in series:
        corner, right, down = lps_of(ds, 0, 0), lps_of(ds, 0, 1), lps_of(ds, 1, 0)
        i, j, k = (
            np.rint(to_voxel @ [*(point * [-1, -1, 1]), 1]).astype(int)[:3] for point in (corner, right, down)
        )
        rows, columns = np.mgrid[: ds.Rows, : ds.Columns]
        index = i[:, None, None] + (k - i)[:, None, None] * rows + (j - i)[:, None, None] * columns
        rebuilt[tuple(index)] = ds.pixel_array // INTENSITY_SCALE
    assert np.array_equal(rebuilt, template.voxels)


@pytest.mark.parametrize("voxel", [(40, 180, 60), (150, 60, 40), (98, 134, 120)])
def test_a_landmark_keeps_its_position_in_mm(template, series, voxel):
    right, anterior, superior = (template.affine @ [*voxel, 1])[:3]
    ds = next(ds for ds in series if float(ds.ImagePositionPatient[0]) == -right)
    row = next(r for r in range(ds.Rows) if lps_of(ds, r, 0)[2] == superior)
    column = next(c for c in range(ds.Columns) if lps_of(ds, 0, c)[1] == -anterior)
    assert ds.pixel_array[row, column] == int(template.voxels[voxel]) * INTENSITY_SCALE


def test_an_asymmetric_volume_is_not_mirrored():
    voxels = np.zeros((5, 6, 7), np.uint8)
    voxels[4, 1, 6] = 9  # right, posterior, superior
    slices = sagittal(Template(voxels, np.array([[2, 0, 0, -4], [0, 3, 0, 1], [0, 0, 4, 5], [0, 0, 0, 1.0]])))
    ((place),) = np.argwhere(slices.frames)
    assert slices.affine @ [*place, 1] == pytest.approx([-4, -4, 29, 1])


def test_a_volume_on_other_axes_is_refused():
    with pytest.raises(ValueError, match="R, A and S"):
        sagittal(Template(np.zeros((2, 2, 2), np.uint8), np.diag([-1.0, 1, 1, 1])))


def test_slices_are_regular_along_the_normal(series):
    along_row, along_column = np.reshape(np.array(series[0].ImageOrientationPatient, float), (2, 3))
    normal = np.cross(along_row, along_column)
    places = [float(np.dot(normal, np.array(ds.ImagePositionPatient, float))) for ds in series]
    assert np.diff(places) == pytest.approx(float(series[0].SpacingBetweenSlices))
    assert [float(ds.SliceLocation) for ds in series] == pytest.approx(places)


def test_uids_are_valid_and_new_each_time(series, tmp_path):
    again = pydicom.dcmread(scan_mni(tmp_path)[0], stop_before_pixels=True)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
        assert again[keyword].value.is_valid
        assert again[keyword].value != series[0][keyword].value
    assert len({ds.SOPInstanceUID for ds in series}) == len(series)
    assert len({ds.SeriesInstanceUID for ds in series}) == 1


def test_dciodvfy_finds_no_fault(files):
    program = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")
    if program is None:
        pytest.skip("not run here: dciodvfy")
    for file in (files[0], files[98]):
        done = subprocess.run([program, "-new", str(file)], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert "MRImage" in said
        assert [line for line in said.splitlines() if line.startswith(("Error", "Warning"))] == []
