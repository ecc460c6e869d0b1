"""WADO-RS: instances, metadata, frames and bulk data, in the form that the client accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BytesIO

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG4HP41,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from sqlalchemy import update

from dicomnode.store.clock import Now
from dicomnode.store.schema import instance
from tests.dicomweb.archive import Archive, received, serving
from tests.dicomweb.datasets import SERIES, STUDY, image, pixels, volume

INSTANCE = f"/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1"
VOLUME = f"/studies/{STUDY}/series/1.2.3.5/instances/1.2.3.5.1"
RLE = "/studies/1.2.6/series/1.2.6.1/instances/1.2.6.1.1"
BIG = "/studies/1.2.7/series/1.2.7.1/instances/1.2.7.1.1"
VIDEO = "/studies/1.2.5/series/1.2.5.1/instances/1.2.5.1.1"
BITS = "/studies/1.2.4/series/1.2.4.1/instances/1.2.4.1.1"
DICOM = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    datasets = [*(image(n) for n in (1, 2, 3)), volume(), rle(), big_endian(), bits(), video(), with_curve()]
    with serving(f"sqlite:///{folder / 'wado.sqlite3'}", folder, datasets) as archive:
        yield archive


def rle() -> Dataset:
    ds = image(1, "1.2.6.1", "1.2.6")
    ds.compress(RLELossless, generate_instance_uid=False)
    return ds


def big_endian() -> Dataset:
    ds = image(1, "1.2.7.1", "1.2.7")
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    ds.PixelData = pixels(1).astype(">u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def bits() -> Dataset:
    """Frames of 5 by 3 single bits: the second begins in the middle of a byte."""
    ds = image(1, "1.2.4.1", "1.2.4", Rows=3, Columns=5, NumberOfFrames=2)
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    ds.PixelData = np.packbits(mask().ravel(), bitorder="little").tobytes()
    return ds


def mask() -> np.ndarray:
    return (np.arange(30).reshape(2, 3, 5) % 3 == 0).astype(np.uint8)


def video() -> Dataset:
    """A film: its frames are not decoded here."""
    ds = image(1, "1.2.5.1", "1.2.5")
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = MPEG4HP41
    return ds


def with_curve() -> Dataset:
    """Large values beside the pixels: numbers, texts and one in a sequence."""
    ds = image(9, "1.2.3.9")
    ds.add_new(0x00281101, "US", [1024, 0, 16])
    ds.add_new(0x00660016, "OF", np.arange(600, dtype="<f4").tobytes())
    ds.add_new("TextValue", "UT", "für " * 500)
    item = Dataset()
    item.add_new(0x00282000, "OB", bytes(range(256)) * 8)
    ds.OpticalPathSequence = [Dataset(), item]
    ds.WindowCenter = [str(value) for value in range(600)]
    return ds


def parts_of(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Content type and content of each part, taken apart by hand."""
    boundary = re.search(r"boundary=([0-9a-f]+)", answer.headers["Content-Type"])[1].encode()
    assert answer.content.endswith(b"--" + boundary + b"--\r\n")
    parts = []
    for part in answer.content.split(b"--" + boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        parts.append((re.search(rb"Content-Type: ([^\r]+)", head)[1].decode(), content[:-2]))
    return parts


def test_a_client_retrieves_a_study_a_series_and_an_instance(archive: Archive):
    client = archive.client
    assert len(client.retrieve_study(STUDY)) == 5
    assert {each.InstanceNumber for each in client.retrieve_series(STUDY, SERIES)} == {1, 2, 3}
    one = client.retrieve_instance(STUDY, SERIES, f"{SERIES}.2")
    assert (one.pixel_array == pixels(2)).all()


def test_a_client_retrieves_metadata_at_each_level(archive: Archive):
    client = archive.client
    assert len(client.retrieve_study_metadata(STUDY)) == 5
    assert len(client.retrieve_series_metadata(STUDY, SERIES)) == 3
    ds = Dataset.from_json(client.retrieve_instance_metadata(STUDY, SERIES, f"{SERIES}.1"))
    assert (ds.Rows, ds.Columns, ds.InstanceNumber, ds.PatientName) == (12, 16, 1, "Doe^Jane")


def test_a_client_retrieves_frames_and_bulk_data(archive: Archive):
    client = archive.client
    frames = client.retrieve_instance_frames(STUDY, "1.2.3.5", "1.2.3.5.1", [3, 1])
    assert [bytes(each) for each in frames] == [pixels(3).tobytes(), pixels(1).tobytes()]
    model = client.retrieve_instance_metadata(STUDY, SERIES, f"{SERIES}.1")
    assert client.retrieve_bulkdata(model["7FE00010"]["BulkDataURI"]) == [pixels(1).tobytes()]


def test_what_was_stored_comes_back_byte_for_byte(archive: Archive):
    answer = archive.get(INSTANCE, "application/dicom")
    sent = received(image(1))
    assert answer.headers["Content-Type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    assert answer.content.endswith(sent.data)
    ((media_type, content),) = parts_of(archive.get(INSTANCE, DICOM))
    assert (media_type, content) == (answer.headers["Content-Type"], answer.content)


@pytest.mark.parametrize(
    ("path", "accept", "syntax"),
    [
        (INSTANCE, None, ExplicitVRLittleEndian),
        (INSTANCE, "*/*", ExplicitVRLittleEndian),
        (INSTANCE, DICOM, ExplicitVRLittleEndian),
        (INSTANCE, "multipart/related; type=application/dicom", ExplicitVRLittleEndian),
        (RLE, DICOM, ExplicitVRLittleEndian),
        (RLE, f"{DICOM}; transfer-syntax=*", RLELossless),
        (RLE, f"{DICOM}; transfer-syntax={RLELossless}", RLELossless),
        (RLE, f"{DICOM}; transfer-syntax={JPEG2000Lossless}", JPEG2000Lossless),
        (RLE, f"{DICOM}, {DICOM}; transfer-syntax={RLELossless}", RLELossless),
        (RLE, f"{DICOM}; q=0.9, {DICOM}; transfer-syntax={RLELossless}; q=0.2", ExplicitVRLittleEndian),
        (RLE, f"{DICOM}; transfer-syntax=1.2.404, {DICOM}; q=0.1", ExplicitVRLittleEndian),
        (BIG, DICOM, ExplicitVRLittleEndian),
        (INSTANCE, f"{DICOM}; transfer-syntax={JPEGLSLossless}", JPEGLSLossless),
        (INSTANCE, f"{DICOM}; transfer-syntax={HTJ2KLossless}", HTJ2KLossless),
        (INSTANCE, f"{DICOM}; transfer-syntax={RLELossless}", RLELossless),
        (INSTANCE, f"{DICOM}; transfer-syntax={ImplicitVRLittleEndian}", ImplicitVRLittleEndian),
        (VIDEO, f"{DICOM}; transfer-syntax=*", MPEG4HP41),
        (VIDEO, DICOM, MPEG4HP41),
    ],
)
def test_an_instance_comes_in_the_transfer_syntax_that_was_asked_for(archive, path, accept, syntax):
    ((media_type, content),) = parts_of(archive.get(path, accept))
    assert media_type == f"application/dicom; transfer-syntax={syntax}"
    ds = dcmread(BytesIO(content))
    assert ds.file_meta.TransferSyntaxUID == syntax
    assert path.endswith(ds.SOPInstanceUID)
    if path != VIDEO:
        assert (ds.pixel_array == pixels(1)).all()


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (INSTANCE, "text/html"),
        (INSTANCE, "image/jpeg"),
        (INSTANCE, f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.50"),
        (INSTANCE, f"{DICOM}; q=0"),
        (VIDEO, f"{DICOM}; transfer-syntax={ExplicitVRLittleEndian}"),
        (f"/studies/{STUDY}", "application/dicom"),
        (f"{INSTANCE}/metadata", "application/dicom"),
        (f"{INSTANCE}/frames/1", "image/jpeg"),
        (f"{VOLUME}/frames/1,2", "application/octet-stream"),
    ],
)
def test_what_cannot_be_given_is_406(archive: Archive, path: str, accept: str):
    assert archive.get(path, accept).status_code == 406


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies/1.2.404", 404),
        (f"/studies/{STUDY}/series/1.2.404", 404),
        (f"{INSTANCE}9", 404),
        ("/studies/1.2.404/metadata", 404),
        (f"{VOLUME}/frames/4", 404),
        (f"{VOLUME}/frames/0", 400),
        (f"{VOLUME}/frames/one", 400),
        (f"{INSTANCE}/bulkdata/00100010", 404),
        (f"{INSTANCE}/bulkdata/../../etc/passwd", 404),
        (f"{INSTANCE}/bulkdata/zz", 404),
        ("/studies/not-a-uid", 400),
        (f"/studies/{STUDY}/instances/{SERIES}.1/what", 404),
    ],
)
def test_what_is_not_there_or_is_nonsense_is_said(archive: Archive, path: str, status: int):
    assert archive.get(path).status_code == status


def test_what_retention_has_removed_is_410_and_not_part_of_its_series(tmp_path):
    with serving(f"sqlite:///{tmp_path / 't.sqlite3'}", tmp_path, [image(1), image(2)]) as archive:
        gone = update(instance).where(instance.c.SOPInstanceUID == f"{SERIES}.1").values(removed_at=Now())
        with archive.database.begin() as tx:
            tx.execute(gone)
        assert archive.get(INSTANCE).status_code == 410
        assert len(parts_of(archive.get(f"/studies/{STUDY}"))) == 1


def test_the_length_of_a_study_that_is_sent_as_stored_is_told_before(archive: Archive):
    answer = archive.get(f"/studies/{STUDY}", DICOM)
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert len(parts_of(answer)) == 5


def test_a_second_visit_costs_nothing(archive: Archive):
    for path in (INSTANCE, f"/studies/{STUDY}/metadata", f"{VOLUME}/frames/1", f"{INSTANCE}/rendered"):
        etag = archive.get(path).headers["ETag"]
        again = archive.get(path, If_None_Match=etag)
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
        assert again.headers["Vary"] == "Accept"
        assert archive.get(path, If_None_Match='"other"').status_code == 200
    assert archive.get(INSTANCE).headers["ETag"] != archive.get(INSTANCE, "application/dicom").headers["ETag"]


def test_the_same_tag_is_the_same_bytes_and_who_insists_on_another_gets_none(archive: Archive):
    for path in (INSTANCE, f"/studies/{STUDY}/metadata", f"{VOLUME}/frames/1,2", f"{VOLUME}/bulkdata"):
        first = archive.get(path)
        etag = first.headers["ETag"]
        assert archive.get(path, If_Match=f'"other", {etag}').content == first.content
        assert archive.get(path, If_Match="*").status_code == 200
        assert archive.get(path, If_Match='"other"', If_None_Match=etag).status_code == 412


@pytest.mark.parametrize("path", [INSTANCE, f"{INSTANCE}/bulkdata/7FE00010", f"{INSTANCE}/frames/1"])
def test_ranges_of_bytes_are_parts_of_the_whole(archive: Archive, path: str):
    accept = "application/dicom, application/octet-stream"
    whole = archive.get(path, accept).content
    for wanted, expected in (
        ("bytes=0-9", whole[:10]),
        ("bytes=100-", whole[100:]),
        ("bytes=-7", whole[-7:]),
        ("bytes=5-99999999", whole[5:]),
    ):
        answer = archive.get(path, accept, Range=wanted)
        assert (answer.status_code, answer.content) == (206, expected)
        assert answer.headers["Content-Range"].endswith(f"/{len(whole)}")
    assert archive.get(path, accept, Range="bytes=99999999-").status_code == 416
    assert archive.get(path, accept, Range="bytes=0-9", If_Range='"old"').content == whole
    assert archive.get(path, accept, Range="lines=1-2").content == whole


@pytest.mark.parametrize("path", [INSTANCE, f"{RLE}/bulkdata/7FE00010"])
def test_several_ranges_come_in_parts_of_one_answer(archive: Archive, path: str):
    accept = "application/dicom, application/octet-stream"
    plain = archive.get(path, accept)
    whole = plain.content
    answer = archive.get(path, accept, Range="bytes=0-9, 20-24,-7, 99999999-")
    assert answer.status_code == 206
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert answer.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
    media_type = plain.headers["Content-Type"]
    assert parts_of(answer) == [(media_type, part) for part in (whole[:10], whole[20:25], whole[-7:])]
    places = re.findall(rb"Content-Range: bytes (\d+)-(\d+)/(\d+)", answer.content)
    assert [tuple(map(int, place)) for place in places] == [
        (first, last, len(whole)) for first, last in ((0, 9), (20, 24), (len(whole) - 7, len(whole) - 1))
    ]
    assert archive.get(path, accept, Range="bytes=5-9,99999999-").content == whole[5:10]
    assert archive.get(path, accept, Range="bytes=99999999-, -0").status_code == 416


def test_a_range_of_bulk_data_comes_in_a_part_for_who_takes_only_parts(archive: Archive):
    path, whole = f"{INSTANCE}/bulkdata/7FE00010", pixels(1).tobytes()
    answer = archive.get(path, OCTETS, Range="bytes=4-9")
    assert answer.status_code == 206
    assert parts_of(answer) == [("application/octet-stream", whole[4:10])]
    assert f"Content-Range: bytes 4-9/{len(whole)}".encode() in answer.content
    assert archive.get(path, OCTETS, Range="bytes=99999999-").status_code == 416


@pytest.mark.parametrize(
    "wanted", ["bytes=9-5", "bytes=", "bytes=0-9;20", "bytes=0-,0-,0-", "bytes=" + "1-1," * 101]
)
def test_ranges_that_are_none_or_cost_more_than_the_whole_get_the_whole(archive: Archive, wanted: str):
    answer = archive.get(INSTANCE, "application/dicom", Range=wanted)
    assert (answer.status_code, answer.content) == (200, archive.get(INSTANCE, "application/dicom").content)


@pytest.mark.parametrize("path", [VOLUME, RLE, BIG, INSTANCE])
def test_a_frame_comes_as_plain_pixels_whatever_is_stored(archive: Archive, path: str):
    for accept in (None, OCTETS, f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"):
        ((media_type, content),) = parts_of(archive.get(f"{path}/frames/1", accept))
        assert media_type == f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
        assert content == pixels(1).tobytes()
    assert archive.get(f"{path}/frames/1", "application/octet-stream").content == pixels(1).tobytes()


def test_a_compressed_frame_comes_as_its_code_stream_where_that_is_accepted(archive: Archive):
    for accept in (
        'multipart/related; type="image/dicom-rle"',
        f"{OCTETS}; transfer-syntax=*",
        f"{OCTETS}; transfer-syntax={RLELossless}",
    ):
        ((media_type, content),) = parts_of(archive.get(f"{RLE}/frames/1", accept))
        assert media_type.endswith(f"transfer-syntax={RLELossless}")
        assert content[:4] == b"\2\0\0\0"
    ((media_type, content),) = parts_of(
        archive.get(f"{VOLUME}/frames/2", "multipart/related; type=image/jls")
    )
    assert media_type == f"image/jls; transfer-syntax={JPEGLSLossless}"
    assert content[:2] == b"\xff\xd8"


def test_frames_of_single_bits_begin_with_a_byte_each(archive: Archive):
    for number in (1, 2):
        content = archive.get(f"{BITS}/frames/{number}", "application/octet-stream").content
        assert content == np.packbits(mask()[number - 1].ravel(), bitorder="little").tobytes()


def test_every_bulk_data_uri_resolves_to_the_value(archive: Archive):
    path = f"/studies/{STUDY}/series/1.2.3.9/instances/1.2.3.9.9"
    (model,) = archive.get(f"{path}/metadata").json()
    uris = dict(bulk_uris(model))
    assert uris.keys() == {"00660016", "00282000", "7FE00010"}
    assert model["00281050"]["Value"] == list(range(600))
    assert model["0040A160"]["Value"] == [("für " * 500).rstrip()]
    source = with_curve()
    expected = {
        "00660016": source[0x00660016].value,
        "00282000": bytes(range(256)) * 8,
        "7FE00010": source.PixelData,
    }
    for tag, uri in uris.items():
        answer = archive.get(uri.removeprefix(archive.url))
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.content == expected[tag], tag


@pytest.mark.parametrize("level", [1, 2, 3])
def test_all_bulk_data_of_a_resource_comes_with_the_uris_of_its_metadata(archive: Archive, level: int):
    parts = ("studies", STUDY, "series", "1.2.3.9", "instances", "1.2.3.9.9")
    path = "".join(f"/{part}" for part in parts[: 2 * level])
    expected = {uri: archive.get(uri.removeprefix(archive.url)).content for uri in uris_of(archive, path)}
    for accept in (None, OCTETS):
        answer = archive.get(f"{path}/bulkdata", accept)
        places = re.findall(rb"Content-Location: ([^\r]+)", answer.content)
        given = [content for _, content in parts_of(answer)]
        assert dict(zip(map(bytes.decode, places), given, strict=True)) == expected
    pixels_only = [uri for uri in expected if uri.endswith("/7FE00010")]
    assert [content for _, content in parts_of(archive.get(f"{path}/pixeldata"))] == [
        expected[uri] for uri in pixels_only
    ]


def test_pixel_data_come_compressed_frame_by_frame_where_that_is_accepted(archive: Archive):
    ((media_type, content),) = parts_of(archive.get(f"{RLE}/pixeldata", f"{OCTETS}; transfer-syntax=*"))
    assert media_type.endswith(f"transfer-syntax={RLELossless}")
    assert content == parts_of(archive.get(f"{RLE}/frames/1", f"{OCTETS}; transfer-syntax=*"))[0][1]
    answer = archive.get(f"{VOLUME}/pixeldata", "multipart/related; type=image/jls")
    assert [media_type for media_type, _ in parts_of(answer)] == [
        f"image/jls; transfer-syntax={JPEGLSLossless}"
    ] * 3
    assert re.findall(rb"/frames/(\d)\r", answer.content) == [b"1", b"2", b"3"]
    ((_, whole),) = parts_of(archive.get(f"{VOLUME}/pixeldata"))
    assert whole == volume().PixelData
    assert archive.get(f"{VOLUME}/pixeldata", "application/octet-stream").content == whole


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (f"{VIDEO}/pixeldata", None, 406),
        (f"{INSTANCE}/pixeldata", "image/png", 406),
        (f"/studies/{STUDY}/pixeldata", "application/octet-stream", 406),
        ("/studies/1.2.404/bulkdata", None, 404),
        ("/studies/x/pixeldata", None, 400),
    ],
)
def test_bulk_data_that_cannot_be_given_is_said(archive: Archive, path: str, accept: str | None, status: int):
    assert archive.get(path, accept).status_code == status


def test_metadata_in_xml_is_the_same_as_in_json(archive: Archive):
    answer = archive.get(f"{INSTANCE}/metadata", 'multipart/related; type="application/dicom+xml"')
    ((media_type, content),) = parts_of(answer)
    assert media_type == "application/dicom+xml"
    (model,) = archive.get(f"{INSTANCE}/metadata").json()
    assert set(re.findall(rb'tag="(\w{8})"', content)) == {tag.encode() for tag in model}
    assert f'<BulkData uri="{model["7FE00010"]["BulkDataURI"]}"/>'.encode() in content


def test_metadata_is_compressed_for_who_takes_it(archive: Archive):
    answer = archive.get(f"/studies/{STUDY}/metadata", Accept_Encoding="gzip")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(answer.content)) == 5


@pytest.mark.parametrize("name", ["CT_small.dcm", "reportsi.dcm", "rtplan.dcm", "image_dfl.dcm"])
def test_files_of_others_come_back_readable_with_their_metadata(tmp_path, name):
    ds = dcmread(get_testdata_file(name))
    with serving(f"sqlite:///{tmp_path / 't.sqlite3'}", tmp_path, [ds]) as archive:
        path = f"/studies/{ds.StudyInstanceUID}"
        ((_, content),) = parts_of(archive.get(path))
        assert dcmread(BytesIO(content)).SOPInstanceUID == ds.SOPInstanceUID
        (model,) = archive.get(f"{path}/metadata").json()
        assert Dataset.from_json(model, lambda *_: b"").SOPClassUID == ds.SOPClassUID


def uris_of(archive: Archive, path: str) -> list[str]:
    """In the order in which the metadata have them."""
    return [uri for model in archive.get(f"{path}/metadata").json() for _, uri in bulk_uris(model)]


def bulk_uris(model: dict) -> Iterator[tuple[str, str]]:
    for tag, content in model.items():
        if "BulkDataURI" in content:
            yield tag, content["BulkDataURI"]
        for item in content.get("Value", []) if content["vr"] == "SQ" else []:
            yield from bulk_uris(item)
