"""Cases 45 to 62 and 65 over HTTP, as far as no other test has them; see the table in tests/hostile."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.hostile.datasets import DataSet, part10
from tests.hostile.node import HostileNode

RELATED = 'multipart/related; type="application/dicom"; boundary=b'
DEEP = {"json": b"[" * 200_000, "items": b'[{"00081140":{"vr":"SQ","Value":[' * 20_000}


def raw(node: HostileNode, request: bytes, limit_s: float = 10) -> bytes:
    """What is answered until the connection ends."""
    with socket.create_connection(("127.0.0.1", node.web.port), timeout=limit_s) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while chunk := connection.recv(65_536):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer


def post(node: HostileNode, body: bytes, kind: str = RELATED, path: str = "/studies") -> httpx.Response:
    return httpx.post(f"{node.url}{path}", content=body, headers={"Content-Type": kind}, timeout=30)


def file_part(head: bytes = b"Content-Type: application/dicom") -> bytes:
    ds = DataSet()
    return b"--b\r\n" + head + b"\r\n\r\n" + part10(ds.encoded(), ds.SOPInstanceUID) + b"\r\n"


def test_45_a_body_without_its_end_is_400(node):
    assert post(node, file_part()).status_code == 400


def test_46_a_length_over_the_limit_is_413_unread(node):
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {RELATED}\r\n"
    assert raw(node, head.encode() + b"Content-Length: 20679476224\r\n\r\n").startswith(b"HTTP/1.1 413 ")


def test_53_a_body_that_drips_is_408(node):
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {RELATED}\r\n"
    assert raw(node, head.encode() + b"Content-Length: 1000\r\n\r\n" + b"--b").startswith(b"HTTP/1.1 408 ")


def test_56_good_and_bad_mixed_are_202(node):
    answer = post(
        node, file_part() + b"--b\r\nContent-Type: application/dicom\r\n\r\njunk\r\n" + b"--b--\r\n"
    )
    assert answer.status_code == 202


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_57_deep_json_is_400_wherever_json_is_taken(node, text):
    metadata = b"--b\r\nContent-Type: application/dicom+json\r\n\r\n" + text + b"\r\n--b--\r\n"
    assert post(node, metadata, RELATED.replace("dicom", "dicom+json")).status_code == 400
    assert post(node, text, "application/dicom+json", "/workitems").status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/studies/1.2%00.3/metadata",
        "/studies/1.2%27%20OR%201=1--/metadata",
        "/studies/..%2F..%2F..%2Fetc%2Fpasswd",
        "/studies/1.2/series/1.3/instances/1.4%00/frames/1",
        "/studies/1.2/series/1.3/instances/1.4/frames/0",
        "/studies/1.2/series/1.3/instances/1.4/frames/99999999999999999999",
        "/studies/1.2/series/1.3/instances/1.4/bulkdata/..%2F..%2Fx",
        "/studies?limit=abc",
        "/studies?StudyInstanceUID=1.2%27",
        "/studies?StudyDate=20260101-%27",
        "/studies/%ff%fe",
    ],
)
def test_62_metacharacters_in_a_path_or_query_are_400_or_404(node, path):
    assert httpx.get(f"{node.url}{path}", timeout=15).status_code in (400, 404)


@pytest.mark.parametrize(
    "query", ["PatientName=a%00b", "PatientID=%27%3B%20DROP%20TABLE%20study", "PatientName=%25_%5C"]
)
def test_62_metacharacters_in_a_key_match_nothing(node, query):
    assert httpx.get(f"{node.url}/studies?{query}", timeout=15).status_code in (204, 400)


@pytest.mark.parametrize("query", ["limit=99999999999999999999", "offset=99999999999999999999", "limit=-1"])
def test_65_a_huge_limit_is_bounded_or_refused(node, query):
    assert httpx.get(f"{node.url}/studies?{query}", timeout=15).status_code in (200, 204, 400)


@pytest.mark.parametrize(
    "value", ["bytes=0-,0-,0-" + ",0-" * 5000, "bytes=99999999999999999999-", "bytes=-0"]
)
def test_a_range_of_many_parts_costs_no_more_than_one(node, value):
    ds = DataSet()
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10(ds.encoded(), ds.SOPInstanceUID)
    assert post(node, body + b"\r\n--b--\r\n").status_code == 200
    series = f"{node.url}/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
    headers = {"Range": value, "Accept": "application/dicom"}
    answer = httpx.get(f"{series}/instances/{ds.SOPInstanceUID}", headers=headers, timeout=15)
    assert answer.status_code in (200, 206, 400, 416)
    assert len(answer.content) < 100_000
