"""Cases 21 to 40: broken and mean data sets, by C-STORE and by STOW alike (PS3.4 B.2.3, PS3.18 I.2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest
from pydicom.uid import CTImageStorage

from tests.hostile.datasets import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    RLE,
    SEQUENCE,
    SEQUENCE_END,
    UNDEFINED,
    DataSet,
    bare,
    deflated,
    element,
    fragments,
    nested,
    part10,
    sequence,
    text,
    us,
)
from tests.hostile.node import HostileNode
from tests.hostile.peer import CT_CONTEXT, RawPeer, store_rq

STUDY, SERIES, INSTANCE = 0x0020000D, 0x0020000E, 0x00080018
FRAMES, ROWS, COLUMNS, PIXELS = 0x00280008, 0x00280010, 0x00280011, 0x7FE00010
PRIVATE = 0x00091010
Change = Callable[[DataSet], bytes]
"""From a sound data set to the bytes that are sent in its place."""


@dataclass(frozen=True)
class Case:
    """A row of the table: what is sent, and the status that C-STORE and STOW give as a reason."""

    name: str
    change: Change
    reason: int
    syntax: str = EXPLICIT


def having(**elements: bytes) -> Change:
    """The data set with these elements, their tags as keywords `t00080018`."""
    return lambda ds: DataSet(
        {**ds, **{int(tag[1:], 16): value for tag, value in elements.items()}}
    ).encoded()


def without(tag: int) -> Change:
    return lambda ds: b"".join(value for key, value in sorted(ds.items()) if key != tag)


def ending(rest: bytes) -> Change:
    """The data set with something after it."""
    return lambda ds: ds.encoded() + rest


def uid(tag: int, value: bytes) -> Change:
    return lambda ds: DataSet({**ds, tag: element(tag, b"UI", value)}).encoded()


def inflating_to(megabytes: int) -> Change:
    """Pixel data of so many zeros, deflated."""
    pixels = element(PIXELS, b"OW", b"", megabytes * 1_000_000)
    return lambda ds: deflated(DataSet({**ds, PIXELS: pixels}).encoded(), megabytes)


TOO_MANY = us(0x00080000 | 0x0300, 1) * 100_001
REFUSED = (
    Case("21-no-study", without(STUDY), 0xA900),
    Case("21-no-series", without(SERIES), 0xA900),
    Case("21-no-instance", without(INSTANCE), 0xA900),
    Case("21-empty-study", uid(STUDY, b""), 0xA900),
    Case("22-path", uid(SERIES, b"1.2.../../../etc/passwd\0"), 0xC000),
    Case("22-nul", uid(SERIES, b"1.2\0.3.4"), 0xC000),
    Case("22-long", uid(SERIES, b"1." + b"2" * 64), 0xC000),
    Case("22-letters", uid(STUDY, b"1.2.x\0"), 0xC000),
    Case("25-in-the-pixels", lambda ds: ds.encoded()[:-10], 0xC000),
    Case("25-in-an-element", lambda ds: ds.encoded()[:-145], 0xC000),
    Case(
        "25-in-a-fragment", having(t7FE00010=fragments(bare(ITEM) + bare(ITEM, bytes(10), 50))), 0xC000, RLE
    ),
    Case("26-element", ending(element(0x7FE10010, b"UN", b"x", 0xFFFFFFF0)), 0xC000),
    Case("26-short", ending(element(0x7FE10010, b"LO", b"xx", 0xFFFF)), 0xC000),
    Case("26-item", having(t00081140=sequence(bare(ITEM, b"", 0x7FFFFFFF))), 0xC000),
    Case(
        "26-in-an-item",
        having(t00081140=element(SEQUENCE, b"SQ", bare(ITEM, element(0x00080100, b"SH", b"A ", 60)))),
        0xC000,
    ),
    Case("27-depth", having(t00081140=nested(65)), 0xC000),
    Case("27-depth-10000", having(t00081140=nested(10_000)), 0xC000),
    Case("28-sequence", ending(sequence(b"", 0x7FE10010)), 0xC000),
    Case("28-item", having(t00081140=sequence(bare(ITEM, length=UNDEFINED) + bare(SEQUENCE_END))), 0xC000),
    Case("28-stray", having(t00081140=bare(ITEM_END)), 0xC000),
    Case("28-no-item", having(t00081140=sequence(us(0x00080300, 1) + bare(SEQUENCE_END))), 0xC000),
    Case("28-fragments", having(t7FE00010=fragments(bare(ITEM) + bare(ITEM, b"xx"))), 0xC000, RLE),
    Case("29-bomb", inflating_to(300), 0xC000, DEFLATED),
    Case("29-not-deflated", lambda ds: ds.encoded(), 0xC000, DEFLATED),
    Case("29-cut", lambda ds: deflated(ds.encoded())[:-20], 0xC000, DEFLATED),
    Case(
        "30-overflow",
        having(
            t00280008=text(FRAMES, b"IS", "2147483647"),
            t00280010=us(ROWS, 65535),
            t00280011=us(COLUMNS, 65535),
        ),
        0xC000,
    ),
    Case("31-rows", having(t00280010=element(ROWS, b"UL", struct.pack("<L", 70_000))), 0xC000),
    Case("31-columns", having(t00280011=element(COLUMNS, b"UL", struct.pack("<L", 8))), 0xC000),
    *(
        Case(f"32-{name}", having(t00280008=element(FRAMES, b"IS", value)), 0xC000)
        for name, value in {
            "letters": b"abc ",
            "negative": b"-5",
            "huge": b"99999999999999999999",
            "several": b"1\\2 ",
            "float": b"1e9 ",
            "long": b"1" * 100,
        }.items()
    ),
    Case("36-elements", lambda ds: TOO_MANY + ds.encoded(), 0xC000),
    Case(
        "36-items",
        having(t00081140=sequence(bare(ITEM) * 100_001 + bare(SEQUENCE_END))),
        0xC000,
    ),
    Case("39-implicit", lambda ds: bare(INSTANCE, b"1.2.3\0") + ds.encoded(), 0xC000),
    Case("39-explicit", lambda ds: ds.encoded(), 0xC000, IMPLICIT),
    Case("39-little", lambda ds: ds.encoded(), 0xC000, BIG),
    Case("39-deflated", lambda ds: deflated(ds.encoded()), 0xC000),
)
KEPT = (
    Case("found-by-fuzzing-order", lambda ds: element(0x7FE10010, b"UN", b"xx") + ds.encoded(), 0),
    Case("27-depth-64", having(t00081140=nested(64)), 0),
    Case("29-honest", inflating_to(60), 0, DEFLATED),
    Case(
        "33-offset-table",
        having(t7FE00010=fragments(bare(ITEM, b"\xff" * 8) + bare(ITEM, b"junk") + bare(SEQUENCE_END))),
        0,
        RLE,
    ),
    Case(
        "37-charset",
        having(
            t00080005=text(0x00080005, b"CS", "NO_SUCH_SET"),
            t00100010=element(0x00100010, b"PN", b"\xff\xfe<script>alert(1)</script>\x1b$B"),
        ),
        0,
    ),
    Case(
        "38-escapes",
        having(
            t00100020=element(0x00100020, b"LO", b"$(reboot)\r\n\x1b[31m; rm "),
            t00081030=element(0x00081030, b"LO", b"`id`' OR 1=1--\0"),
        ),
        0,
    ),
)


def stow(node: HostileNode, data: bytes, SOPInstanceUID: str, syntax: str) -> httpx.Response:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
    body += part10(data, SOPInstanceUID, syntax) + b"\r\n--b--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    return httpx.post(f"{node.url}/studies", content=body, headers={"Content-Type": kind}, timeout=60)


def c_store(node: HostileNode, data: bytes, SOPInstanceUID: str, syntax: str) -> int:
    with RawPeer(node.receiver.port, limit_s=60) as peer:
        peer.associate((CT_CONTEXT, CTImageStorage, (syntax,)))
        peer.send(CT_CONTEXT, store_rq(SOPInstanceUID), data)
        return peer.status()


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_it_is_refused_by_c_store(node, case):
    ds = DataSet()
    assert c_store(node, case.change(ds), ds.SOPInstanceUID, case.syntax) == case.reason
    assert ds.SOPInstanceUID not in node.stored()


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_it_is_refused_by_stow(node, case):
    ds = DataSet()
    answer = stow(node, case.change(ds), ds.SOPInstanceUID, case.syntax)
    assert answer.status_code in (400, 409)
    assert [item["00081197"]["Value"] for item in answer.json()["00081198"]["Value"]] == [[case.reason]]
    assert ds.SOPInstanceUID not in node.stored()


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.name)
def test_it_is_kept_by_both(node, case):
    ds = DataSet()
    data = case.change(ds)
    assert stow(node, data, ds.SOPInstanceUID, case.syntax).status_code == 200
    assert c_store(node, data, ds.SOPInstanceUID, case.syntax) == 0x0000
    assert ds.SOPInstanceUID in node.stored()
    assert "reboot" not in node.log()
    assert "script" not in node.log()
