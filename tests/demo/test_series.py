"""The demo takes exactly one series from a folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicomnode.demo.errors import DemoError
from dicomnode.demo.scanner import Slices, write_series
from dicomnode.demo.series import find_instances, find_series


def small_series(folder: Path) -> list[Path]:
    return write_series(Slices(np.ones((3, 4, 4), np.uint16), np.eye(4)), folder, datetime.now(UTC))


def test_a_series_is_found_below_its_folder_beside_other_files(tmp_path):
    files = small_series(tmp_path / "a" / "b")
    (tmp_path / "README.txt").write_text("no DICOM")
    series = find_series(tmp_path)
    assert sorted(instance.path for instance in series.instances) == sorted(map(str, files))
    assert {instance.SOPClassUID for instance in series.instances} == {MRImageStorage}
    assert {instance.TransferSyntaxUID for instance in series.instances} == {ExplicitVRLittleEndian}
    assert series.SeriesDescription == "T1 MPRAGE sag 1mm"


def test_two_series_are_refused_and_named(tmp_path):
    small_series(tmp_path / "a")
    small_series(tmp_path / "b")
    with pytest.raises(DemoError, match=r"holds 2 series.*T1 MPRAGE"):
        find_series(tmp_path)


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_a_folder_without_dicom_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemoError, match=folder):
        find_series(tmp_path / folder)


def test_instances_are_found_by_their_uid(tmp_path):
    small_series(tmp_path)
    wanted = find_series(tmp_path).instances[1]
    found = find_instances(tmp_path, frozenset({wanted.SOPInstanceUID}))
    assert found == {wanted.SOPInstanceUID: Path(wanted.path)}
