"""What the targets begin with: sound inputs, so that mutations reach what is behind the first checks."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.hostile.datasets import (
    ITEM,
    SEQUENCE_END,
    DataSet,
    bare,
    fragments,
    nested,
    part10,
    sequence,
)
from tests.hostile.peer import command, echo_rq, store_rq


def write_seeds(folder: Path) -> dict[str, Path]:
    """The folder of each target's seeds."""
    ds = DataSet({0x00081140: nested(3)})
    encapsulated = DataSet({0x7FE00010: fragments(bare(ITEM) + bare(ITEM, b"abcd") + bare(SEQUENCE_END))})
    items = DataSet({0x00081140: sequence(bare(ITEM, DataSet().encoded()) + bare(SEQUENCE_END))})
    body = (
        b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10(ds.encoded(), "1.2.3") + b"\r\n--b--\r\n"
    )
    return {
        name: _write(folder / name, seeds)
        for name, seeds in {
            "structure": [b"\0\x10" + each.encoded() for each in (ds, items)]
            + [b"\3\x01" + encapsulated.encoded()],
            "multipart": [b"\x05" + body, b"\x30" + body],
            "messages": [
                _fragment(1, 3, command(store_rq("1.2.3")))
                + _fragment(1, 0, b"x" * 9)
                + _fragment(1, 2, b"y"),
                _fragment(3, 3, command(echo_rq())),
                _fragment(3, 1, command(echo_rq())[:20]) + _fragment(3, 3, command(echo_rq())[20:]),
            ],
        }.items()
    }


def _fragment(context_id: int, control: int, data: bytes) -> bytes:
    return struct.pack("<BBH", context_id, control, len(data)) + data


def _write(folder: Path, seeds: list[bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    return folder
