"""Requests that are slow, long, lying or cut get their status, cost little, and leave nothing behind."""

from __future__ import annotations

import pytest

from dicomnode.dicomweb import server, stow_body
from tests.dicomweb.web import BOUNDARY, PATH, Web, multipart, part10, related, serving
from tests.harness.heads import small_series


@pytest.fixture
def body() -> bytes:
    return multipart(*map(part10, small_series(2)))


def head(*lines: str, kind: str | None = None) -> bytes:
    first = (
        f"POST {PATH}/studies HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {kind or related()}",
        "Connection: close",
    )
    return "\r\n".join([*first, *lines, "", ""]).encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def post(web: Web, body: bytes, kind: str | None = None) -> int:
    return status(web.raw(head(f"Content-Length: {len(body)}", kind=kind) + body))


def test_a_chunked_body_is_the_same_body(web, body):
    pieces = [body[at : at + 777] for at in range(0, len(body), 777)]
    chunks = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    assert status(web.raw(head("Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")) == 200
    assert len(web.stored()) == 2


def test_the_last_line_break_may_be_missing(web, body):
    assert post(web, body.removesuffix(b"\r\n")) == 200
    assert len(web.stored()) == 2


@pytest.mark.parametrize("cut", [1, 2, 3, 300, 3000])
def test_a_body_without_its_closing_delimiter_is_400_and_nothing_of_it_is_kept(web, body, cut):
    assert post(web, body.removesuffix(b"\r\n")[:-cut]) == 400
    assert web.stored() == set()
    assert web.files() == []


@pytest.mark.parametrize(
    "kind",
    [
        'multipart/related; type="application/dicom"',
        'multipart/related; type="application/dicom"; boundary=""',
        f'multipart/related; type="application/dicom"; boundary={"b" * 201}',
        "multipart/related; boundary=",
        "multipart",
    ],
)
def test_a_boundary_that_is_missing_or_too_long_is_400(web, body, kind):
    assert post(web, body, kind) == 400


def test_a_length_over_the_limit_is_413_before_anything_is_read(web):
    assert status(web.raw(head(f"Content-Length: {2**33}"))) == 413


def test_a_chunked_body_over_the_limit_is_413(tmp_path):
    with serving(tmp_path, maximum_request=10_000) as web:
        assert status(web.raw(head("Transfer-Encoding: chunked") + b"4000\r\n" + bytes(0x4000))) == 413
        assert web.files() == []


def test_a_compressed_body_is_415(web, body):
    assert status(web.raw(head(f"Content-Length: {len(body)}", "Content-Encoding: gzip") + body)) == 415


@pytest.mark.parametrize(
    "beginning", [b"", b"--" + BOUNDARY.encode() + b"\r\nA: "], ids=["preamble", "headers"]
)
def test_an_endless_preamble_and_endless_headers_of_a_part_are_400_at_a_cap(web, beginning):
    assert post(web, beginning + b"x" * 300_000) == 400


def test_ten_to_the_five_empty_parts_are_413(web):
    assert post(web, multipart(*[("A: b", b"")] * 100_000)) == 413
    assert web.files() == []


def test_a_request_may_have_as_many_parts_as_a_study_has_instances():
    assert stow_body.MAXIMUM_PARTS >= 20_000


def test_a_body_that_stops_coming_is_408(tmp_path, body):
    with serving(tmp_path, body_timeout_s=0.3) as web:
        assert status(web.raw(head(f"Content-Length: {len(body)}") + body[:-10])) == 408
        assert web.files() == []


def test_a_body_that_drips_is_408(tmp_path, body, monkeypatch):
    monkeypatch.setattr("dicomnode.dicomweb.limits.SLOWEST", 1e12)
    with serving(tmp_path, body_timeout_s=1e-6) as web:
        assert status(web.raw(head(f"Content-Length: {len(body)}") + body[:1000])) == 408


def test_two_ways_of_saying_the_length_are_400(web, body):
    assert status(web.raw(head("Transfer-Encoding: chunked", f"Content-Length: {len(body)}") + body)) == 400
    assert web.files() == []


def test_a_head_that_does_not_come_or_has_no_end_closes_the_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "HEAD_LIMIT_S", 0.3)
    with serving(tmp_path) as web:
        assert web.raw(b"POST /dicom") == b""
        assert web.raw(b"") == b""
        assert web.raw(b"GET / HTTP/1.1\r\nA: " + b"x" * 200_000) == b""


def test_what_is_no_http_is_400(web):
    assert status(web.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))) == 400
