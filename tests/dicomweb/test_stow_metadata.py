"""Metadata and bulk data become the instance that they describe; nothing is ever fetched."""

from __future__ import annotations

import json
import socket
from io import BytesIO

import pydicom
import pytest
from PIL import Image
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
)

from dicomnode.dicomweb.dicom_json import to_json
from dicomnode.dicomweb.dicom_xml import to_xml
from dicomnode.dicomweb.jpeg_process import transfer_syntax_of
from dicomnode.dicomweb.native_model import from_xml
from dicomnode.errors import BadRequest
from tests.dicomweb.web import Web, multipart, part10, references, related
from tests.harness.heads import small_series

REASON = "00081197"
JSON, XML = "application/dicom+json", "application/dicom+xml"


@pytest.fixture
def ds() -> pydicom.Dataset:
    ds = small_series(1)[0]
    ds.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    ds.SpecificCharacterSet = "ISO_IR 192"
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "T-A0100", "SRT", "Brain & <skull>"
    ds.AnatomicRegionSequence = [item]
    ds.add_new(0x00291010, "OB", b"\x01\x02\x03\x00")
    ds.add_new(0x00290010, "LO", "MAKER")
    return pydicom.dcmread(BytesIO(part10(ds)))


def model(ds: pydicom.Dataset, uri: str = "bulk/1") -> dict[str, object]:
    made = to_json(ds)
    made["7FE00010"] = {"vr": "OW", "BulkDataURI": uri}
    return made


def bulk(
    content: bytes, location: str = "bulk/1", kind: str = "application/octet-stream"
) -> tuple[str, bytes]:
    return f"Content-Type: {kind}\r\nContent-Location: {location}", content


def kept(web: Web) -> pydicom.Dataset:
    return pydicom.dcmread(web.files()[0])


@pytest.mark.parametrize("root", [JSON, XML])
def test_metadata_and_bulk_data_become_the_instance_that_they_describe(web, ds, root):
    text = json.dumps([model(ds)]).encode() if root == JSON else to_xml(model(ds))
    body = multipart((f"Content-Type: {root}", text), bulk(ds.PixelData))
    answer = web.store(body, Content_Type=related(root))
    assert answer.status_code == 200, answer.text
    stored = kept(web)
    assert stored.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert {element.tag: element.value for element in stored} == {
        element.tag: element.value for element in ds
    }


def test_a_document_may_hold_many_instances_and_each_takes_its_own_bulk_data(web):
    series = small_series(3)
    text = json.dumps([model(ds, f"bulk/{number}") for number, ds in enumerate(series)]).encode()
    parts = [bulk(ds.PixelData, f"bulk/{number}") for number, ds in enumerate(series)]
    answer = web.store(multipart((f"Content-Type: {JSON}", text), *parts), Content_Type=related(JSON))
    assert answer.status_code == 200
    assert {pydicom.dcmread(path).PixelData for path in web.files()} == {ds.PixelData for ds in series}


def test_a_compressed_frame_is_kept_as_it_is_in_its_transfer_syntax(web, ds):
    frame = b"\xff\xd8 a frame \xff\xd9"
    kind = f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}"
    body = multipart((f"Content-Type: {JSON}", json.dumps([model(ds)]).encode()), bulk(frame, kind=kind))
    assert web.store(body, Content_Type=related(JSON)).status_code == 200
    stored = kept(web)
    assert stored.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert list(pydicom.encaps.generate_frames(stored.PixelData, number_of_frames=1)) == [frame + b"\x00"]


@pytest.mark.parametrize(
    ("marker", "predictor", "syntax"),
    [
        (0xC0, 0, JPEGBaseline8Bit),
        (0xC1, 0, JPEGExtended12Bit),
        (0xC3, 1, JPEGLosslessSV1),
        (0xC3, 6, JPEGLossless),
        (0xC2, 0, JPEGLosslessSV1),
        (None, 0, JPEGLosslessSV1),
    ],
)
def test_a_frame_whose_transfer_syntax_is_not_told_is_in_that_of_its_process(
    web, ds, marker, predictor, syntax
):
    tables = b"\xff\xdb\x00\x04\x00\x01"
    image = b"\xff" + bytes([marker or 0xFE]) + b"\x00\x0b\x08\x00\x01\x00\x01\x01\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00" + bytes([predictor]) + b"\x00\x00"
    frame = b"\xff\xd8" + (tables + image + scan if marker else b"") + b" data\xff\xd9"
    model_of = json.dumps([model(ds)]).encode()
    body = multipart((f"Content-Type: {JSON}", model_of), bulk(frame, kind="image/jpeg"))
    assert web.store(body, Content_Type=related(JSON)).status_code == 200
    assert kept(web).file_meta.TransferSyntaxUID == syntax


def test_a_browsers_own_jpeg_is_baseline():
    buffer = BytesIO()
    Image.new("L", (8, 8)).save(buffer, "jpeg")
    assert transfer_syntax_of(buffer.getvalue()) == JPEGBaseline8Bit


def test_bulk_data_elsewhere_are_400_and_never_fetched(web, ds):
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        uri = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/pixels"
        for root, text in ((JSON, json.dumps([model(ds, uri)]).encode()), (XML, to_xml(model(ds, uri)))):
            answer = web.store(multipart((f"Content-Type: {root}", text)), Content_Type=related(root))
            assert answer.status_code == 400
        for uri in ("file:///etc/passwd", "../1", ""):
            text = json.dumps([model(ds, uri)]).encode()
            assert (
                web.store(multipart((f"Content-Type: {JSON}", text)), Content_Type=related(JSON)).status_code
                == 400
            )
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert web.files() == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1]",
        b'{"x": {}}',
        b'{"00100010": 1}',
        b'{"00100010": {"vr": "PN", "Value": 5}}',
        b'{"00100010": {"vr": "??", "Value": ["x"]}}',
        b'{"00280010": {"vr": "US", "Value": ["x"]}}',
        b'{"00081140": {"vr": "SQ", "Value": ["x"]}}',
        b"[" * 100_000,
        b'{"00081140":{"vr":"SQ","Value":[' * 5000,
    ],
)
def test_json_that_is_no_data_set_is_refused(web, text):
    answer = web.store(multipart((f"Content-Type: {JSON}", text)), Content_Type=related(JSON))
    assert answer.status_code in (400, 409)
    assert web.files() == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<a/>",
        b"<NativeDicomModel><x/></NativeDicomModel>",
        b'<NativeDicomModel><DicomAttribute tag="zz" vr="LO"/></NativeDicomModel>',
        b'<NativeDicomModel><DicomAttribute tag="00280010" vr="US"><Value>x</Value></DicomAttribute>'
        b"</NativeDicomModel>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel/>',
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd"><NativeDicomModel/>',
        b"<a>" * 100_000,
    ],
)
def test_xml_that_is_no_data_set_is_refused(text):
    with pytest.raises(BadRequest):
        from_xml(text)


def test_xml_is_read_as_it_is_written(ds):
    written = to_json(ds)
    assert from_xml(to_xml(written)) == written


def test_an_instance_that_names_no_class_costs_only_itself(web, ds):
    nameless = {tag: content for tag, content in model(ds).items() if tag != "00080016"}
    text = json.dumps([nameless, model(ds)]).encode()
    answer = web.store(
        multipart((f"Content-Type: {JSON}", text), bulk(ds.PixelData)), Content_Type=related(JSON)
    )
    assert answer.status_code == 202
    assert [item[REASON] for item in references(answer, "OtherFailuresSequence")] == [0xA900]
    assert web.stored() == {ds.SOPInstanceUID}
