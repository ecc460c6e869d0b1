"""DICOM JSON is what pydicom reads, XML is what DCMTK reads, and both are what the data set says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicomnode.dicomweb.dicom_json import INLINE_LIMIT, bulk_paths, to_json
from dicomnode.dicomweb.dicom_xml import to_xml
from tests import peers

FILES = ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "reportsi.dcm", "SC_rgb_rle_2frame.dcm"]
NAMESPACE = {"n": "http://dicom.nema.org/PS3.19/models/NativeDICOM"}


@pytest.mark.parametrize("name", FILES)
def test_a_data_set_comes_back_from_json_as_it_was(name):
    ds = without_group_lengths(dcmread(get_testdata_file(name)))
    again = Dataset.from_json(json.dumps(to_json(ds)))
    for element in ds:
        if element.tag == Tag("SpecificCharacterSet"):
            continue
        assert again[element.tag].value == element.value, element.tag


@pytest.mark.parametrize("name", FILES)
def test_what_is_said_in_json_is_what_pydicom_would_say(name):
    ds = without_group_lengths(dcmread(get_testdata_file(name)))
    ours, theirs = to_json(ds), ds.to_json_dict()
    assert ours.keys() == theirs.keys()
    for tag in ours.keys() - {"00080005"}:
        # A sequence without items has no value (PS3.18 F.2.5), whatever pydicom writes.
        assert ours[tag].get("Value", []) == theirs[tag].get("Value", []), tag
        assert ours[tag].get("InlineBinary") == theirs[tag].get("InlineBinary"), tag


def test_names_in_three_scripts_numbers_and_empty_values_are_as_the_standard_writes_them():
    ds = Dataset()
    ds.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientID = ""
    ds.add_new("ImageType", "CS", ["ORIGINAL", "", "AXIAL"])
    ds.add_new("FrameIncrementPointer", "AT", 0x00181063)
    ds.add_new("RealWorldValueSlope", "FD", float("nan"))
    ds.WindowCenter = ["40", "-600.5"]
    model = to_json(ds)
    assert model["00100010"]["Value"] == [
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    ]
    assert model["00100020"] == {"vr": "LO"}
    assert model["00080008"]["Value"] == ["ORIGINAL", None, "AXIAL"]
    assert model["00280009"]["Value"] == ["00181063"]
    assert model["00409225"]["Value"] == ["NaN"]
    assert model["00281050"]["Value"] == [40, -600.5]


def test_only_binary_values_stand_behind_a_uri_and_the_uri_says_where():
    ds, item = Dataset(), Dataset()
    item.add_new(0x00282000, "OB", b"\1" * 3000)
    item.add_new("TextValue", "UT", "x" * 3000)
    item.add_new("CodeMeaning", "LO", "y" * 3000)
    ds.OpticalPathSequence = Sequence([Dataset(), item])
    model = to_json(ds, lambda way: "/".join(map(str, way)))
    inner = model["00480105"]["Value"][1]
    assert inner["00282000"] == {"vr": "OB", "BulkDataURI": f"{0x00480105}/1/{0x00282000}"}
    assert inner["0040A160"]["Value"] == ["x" * 3000]
    assert inner["00080104"]["Value"] == ["y" * 3000]


def test_what_stands_behind_a_uri_is_not_read(tmp_path):
    path = tmp_path / "ct.dcm"
    path.write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    ds = dcmread(path, defer_size=INLINE_LIMIT)
    path.unlink()
    assert to_json(ds, lambda way: f"at {way}")["7FE00010"] == {"vr": "OW", "BulkDataURI": "at (2145386512,)"}
    assert (0x7FE00010,) in bulk_paths(ds)


def test_an_unreadable_value_costs_only_itself():
    ds = dcmread(get_testdata_file("CT_small.dcm"))
    ds._dict[Tag("InstanceNumber")] = ds.get_item("InstanceNumber")._replace(value=b"\xff\xfe")
    model = to_json(ds)
    assert "Value" not in model["00200013"] or isinstance(model["00200013"]["Value"][0], str)
    assert model["00080060"]["Value"] == ["CT"]


@pytest.mark.parametrize("name", FILES[:4])
def test_the_xml_of_a_data_set_is_that_of_dcmtk(name):
    path = get_testdata_file(name)
    ours = ET.fromstring(to_xml(to_json(without_group_lengths(dcmread(path)))))  # noqa: S314  of our own making
    command = [peers.dcmtk("dcm2xml"), "--native-format", str(path)]
    theirs = ET.fromstring(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S314  of our own making
    assert facts(ours).keys() == facts(theirs).keys()
    for place, values in facts(ours).items():
        assert same(values, facts(theirs)[place]), place


def test_a_private_attribute_names_its_creator_and_characters_that_xml_lacks_are_left_out():
    ds = Dataset()
    block = ds.private_block(0x0009, 'MAKER "A&B"', create=True)
    block.add_new(0x02, "LO", "<a>\x0b")
    root = ET.fromstring(to_xml(to_json(ds)))  # noqa: S314  of our own making
    private = root.findall("n:DicomAttribute", NAMESPACE)[1]
    assert private.get("privateCreator") == 'MAKER "A&B"'
    assert private.get("tag") == "00090002"
    assert private.findtext("n:Value", namespaces=NAMESPACE) == "<a>"


def without_group_lengths(ds: Dataset) -> Dataset:
    for tag in [tag for tag in list(ds.keys()) if tag.element == 0]:
        del ds[tag]
    return ds


def facts(root: ET.Element, place: str = "") -> dict[str, list[str]]:
    """The texts of each attribute by its place; what is binary is left to the tests of bulk data."""
    found: dict[str, list[str]] = {}
    for attribute in root:
        tag, name = attribute.get("tag", ""), attribute.tag.rpartition("}")[2]
        if name != "DicomAttribute" or tag.endswith("0000") or tag == "00080005" or int(tag[:4], 16) % 2:
            continue
        items = [each for each in attribute if each.tag.rpartition("}")[2] == "Item"]
        for number, item in enumerate(items):
            found |= facts(item, f"{place}/{tag}/{number}")
        if not items and attribute.get("vr") not in ("OB", "OW", "UN", "SQ"):
            found[f"{place}/{tag}"] = [text.strip() for text in attribute.itertext() if text.strip()]
    return found


def same(ours: list[str], theirs: list[str]) -> bool:
    """The same texts, or the same numbers."""
    if ours == theirs:
        return True
    try:
        return [float(each) for each in ours] == pytest.approx([float(each) for each in theirs])
    except ValueError:
        return False
