"""A hospital's traffic in small: scanners of four kinds, some of them broken, some of them cut off."""

from __future__ import annotations

import random
import struct
from contextlib import suppress

from pydicom.uid import CTImageStorage

from tests.hostile.datasets import (
    EXPLICIT,
    ITEM,
    RLE,
    SEQUENCE_END,
    DataSet,
    bare,
    element,
    fragments,
    text,
    us,
)
from tests.hostile.peer import CT_CONTEXT, RawPeer, store_rq

BROKEN, CUT = 0.05, 0.03
"""How many of the instances are broken, and how many associations are cut off in the middle of one."""
ROWS, COLUMNS, FRAMES, PIXELS = 0x00280010, 0x00280011, 0x00280008, 0x7FE00010
NOISE = random.Random(1).randbytes(10_000_000)
SENT = "sent"


def native(rows: int, columns: int) -> DataSet:
    """One image without compression."""
    pixels = element(PIXELS, b"OW", NOISE[: rows * columns * 2])
    return DataSet({ROWS: us(ROWS, rows), COLUMNS: us(COLUMNS, columns), PIXELS: pixels})


def cine(frames: int, length: int) -> DataSet:
    """A loop of compressed frames."""
    content = bare(ITEM) + b"".join(bare(ITEM, NOISE[:length]) for _ in range(frames)) + bare(SEQUENCE_END)
    return DataSet({FRAMES: text(FRAMES, b"IS", str(frames)), PIXELS: fragments(content)})


KINDS = {
    "CT": (8, EXPLICIT, lambda: native(512, 512)),
    "MR": (8, EXPLICIT, lambda: native(256, 256)),
    "MG": (1, EXPLICIT, lambda: native(2500, 2000)),
    "US": (2, RLE, lambda: cine(60, 30_000)),
}
"""Of each kind: instances in an association, transfer syntax, and how one is made."""


def broken(data: bytes, generator: random.Random) -> bytes:
    """Cut short, or with a length that lies."""
    if generator.random() < 0.5:
        return data[: len(data) - generator.randrange(1, 100)]
    return data + struct.pack("<HH2sHL", 0x7FE1, 0x0010, b"UN", 0, 0x7FFFFFFF)


def scan(port: int, seed: int) -> list[tuple[str, int | str]]:
    """One association: the SOP Instance UID of each instance, with its status or what became of it."""
    generator = random.Random(seed)
    instances, syntax, make = KINDS[generator.choice(tuple(KINDS))]
    outcomes: list[tuple[str, int | str]] = []
    with RawPeer(port, limit_s=60) as peer:
        peer.associate((CT_CONTEXT, CTImageStorage, (syntax,)))
        for _ in range(instances):
            ds = make()
            data = ds.encoded()
            if generator.random() < CUT:
                with suppress(OSError):
                    peer.send(CT_CONTEXT, store_rq(ds.SOPInstanceUID))
                    peer.fragments(CT_CONTEXT, data[: len(data) // 2], last=0)
                outcomes.append((ds.SOPInstanceUID, "cut"))
                return outcomes
            if generator.random() < BROKEN:
                data = broken(data, generator)
            peer.send(CT_CONTEXT, store_rq(ds.SOPInstanceUID), data)
            outcomes.append((ds.SOPInstanceUID, peer.status()))
        peer.release()
    return outcomes
