"""What the demo prints is what the report says."""

from __future__ import annotations

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomnode.demo.measurements import Measurement, measurements
from dicomnode.demo.report import volumes_by_segment


def test_a_published_report_is_read(shared_data):
    found = measurements(pydicom.dcmread(shared_data / "seg-sr" / "sr-example-sr.dcm"))
    # dcmdump counts 24 values: these, and Rows and Columns in the image library, which nobody measured.
    assert len(found) == 22
    assert not [each for each in found if each.quantity.startswith("Pixel Data")]
    assert Measurement("Neoplasm, Primary", 1, "Volume", 33.5824, "ml") in found
    assert volumes_by_segment(found) == {1: 33.5824}


@pytest.mark.parametrize(("unit", "volume_ml"), [("ml", 2500.0), ("mm3", 2.5), ("cm3", 2500.0), ("g", None)])
def test_volumes_are_told_in_ml(unit, volume_ml):
    assert Measurement("Grey matter", 1, "Volume", 2500.0, unit).volume_ml == volume_ml


def test_a_report_without_measurements_has_none():
    assert measurements(Dataset()) == []
