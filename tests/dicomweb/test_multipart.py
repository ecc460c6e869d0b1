"""A multipart body gives the same parts however it is cut, and costs no more than a block of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicomnode.dicomweb.multipart import (
    MAXIMUM_HEADERS,
    MAXIMUM_PREAMBLE,
    MultipartParser,
    PartBegins,
    PartEnds,
)
from dicomnode.errors import BadRequest, RequestTooLarge

BOUNDARY = "ab"
Parts = list[tuple[dict[str, str], bytes]]


def split(body: bytes, cuts: tuple[int, ...] = (), boundary: str = BOUNDARY, maximum: int = 100) -> Parts:
    parser = MultipartParser(boundary, maximum)
    parts: Parts = []
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in pairwise(places):
        for event in parser.feed(body[start:end]):
            if isinstance(event, PartBegins):
                parts.append((dict(event.headers), b""))
                ended = False
            elif isinstance(event, PartEnds):
                ended = True
            else:
                assert not ended
                parts[-1] = (parts[-1][0], parts[-1][1] + bytes(event))
    parser.finish()
    assert not parts or ended
    return parts


def joined(parts: list[bytes], preamble: bytes = b"", headers: bytes = b"A: b\r\n") -> bytes:
    return preamble + b"".join(b"--ab\r\n" + headers + b"\r\n" + part + b"\r\n" for part in parts) + b"--ab--"


# Bytes that delimiters are made of, so that almost-delimiters are common.
NEARLY = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"a", b"b", b" ", b"\r\n--a", b"\r\n--abc", b"x"])
).map(b"".join)
HARMLESS = NEARLY.filter(
    lambda part: all(
        not (b"\r\n" + part + b"\r\n").partition(b"\r\n--ab" + after)[1]
        for after in (b"--", b"\r\n", b" ", b"\t")
    )
)


@given(parts=st.lists(HARMLESS, max_size=4), cuts=st.lists(st.integers(0, 10_000), max_size=12).map(tuple))
@example(parts=[b"\r\n--a"], cuts=(20, 21, 22, 23, 24, 25))
@example(parts=[b"", b""], cuts=())
def test_any_cutting_gives_the_same_parts(parts, cuts):
    assert split(joined(parts), cuts) == [({"a": "b"}, part) for part in parts]


@given(body=st.one_of(NEARLY, st.binary()), cuts=st.lists(st.integers(0, 1000), max_size=8).map(tuple))
def test_whatever_comes_is_split_or_refused_and_the_same_when_cut_otherwise(body, cuts):
    def outcome(*places: int) -> object:
        try:
            return split(body, places)
        except BadRequest as error:
            return str(error)

    assert outcome(*cuts) == outcome() == outcome(*range(len(body)))


@pytest.mark.parametrize(
    "body",
    [
        b"--ab\r\nA: b\r\n\r\nx\r\n--ab--\r\n",
        b"--ab\r\nA: b\r\n\r\nx\r\n--ab--",
        b"\r\n--ab\r\nA: b\r\n\r\nx\r\n--ab--\r\nepilogue",
        b"a preamble\r\n--ab  \t\r\na:b\r\n\r\nx\r\n--ab--",
    ],
    ids=["final line break", "none", "epilogue", "preamble and padding"],
)
def test_the_forms_that_senders_use_are_the_same_part(body):
    assert split(body) == [({"a": "b"}, b"x")]


def test_a_part_may_have_neither_headers_nor_bytes():
    assert split(b"--ab\r\n\r\nx\r\n--ab\r\n\r\n\r\n--ab\r\nA: b\r\n\r\n--ab--") == [
        ({}, b"x"),
        ({}, b""),
        ({"a": "b"}, b""),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"--ab\r\n",
        b"--ab\r\n\r\nx",
        b"--ab\r\n\r\nx\r\n--ab",
        b"--ab\r\n\r\nx\r\n--ab-",
        b"--ab\r\nno colon\r\n\r\nx\r\n--ab--",
    ],
)
def test_a_body_without_its_end_is_refused(body):
    with pytest.raises(BadRequest):
        split(body)


@pytest.mark.parametrize("boundary", ["", "a" * 201, "ends in a space ", "ä", "a\r\nb", 'a"b'])
def test_a_boundary_that_is_none_is_refused(boundary):
    with pytest.raises(BadRequest):
        MultipartParser(boundary, 1)


def test_an_endless_preamble_and_endless_headers_are_refused_at_a_cap():
    for beginning, cap in ((b"", MAXIMUM_PREAMBLE), (b"--ab\r\nA: ", MAXIMUM_HEADERS)):
        parser = MultipartParser(BOUNDARY, 1)
        list(parser.feed(beginning))
        for _ in range(cap // 1000 - 1):
            list(parser.feed(b"x" * 1000))
        with pytest.raises(BadRequest):
            list(parser.feed(b"x" * 2000))


def test_more_parts_than_may_be_are_refused_when_they_begin():
    with pytest.raises(RequestTooLarge):
        split(joined([b""] * 101), maximum=100)
