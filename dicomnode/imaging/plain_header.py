"""The values of a few elements of a header, read at once where they are plain; nearly all headers are.

pydicom takes a millisecond for them. What is not plain is left to it: other encodings than the three here,
values of several parts, VRs that are not the dictionary's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filereader import read_dataset

_CHARACTER_SETS = {b"": "ascii", b"ISO_IR 6": "ascii", b"ISO_IR 100": "latin-1", b"ISO_IR 192": "utf-8"}
_CHARACTER_SET, _PIXELS, _LAST_PIXELS = 0x00080005, 0x7FE00008, 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_EXPLICIT, _IMPLICIT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")
_DEEPEST = 64


class NotPlain(Exception):
    """The header has something that only pydicom reads."""


class PlainHeader:
    """Reads the elements of some keywords."""

    def __init__(self, keywords: tuple[str, ...]) -> None:
        tags = {keyword: tag_for_keyword(keyword) for keyword in keywords}
        self._wanted = {
            tag: (keyword, dictionary_VR(tag).encode()) for keyword, tag in tags.items() if tag is not None
        }

    def read(self, data: bytes, *, is_implicit: bool, is_whole: bool) -> Mapping[str, Any]:
        """Their values by keyword; `data` is Little Endian. Raises NotPlain.

        `is_whole`: `data` is the data set; otherwise it is its beginning.
        """
        try:
            places = self._places(data, is_implicit=is_implicit, is_whole=is_whole)
        except struct.error:
            raise NotPlain from None
        value_at, end = places.get(_CHARACTER_SET, (0, 0, 0))[1:]
        encoding = _CHARACTER_SETS.get(data[value_at:end].strip(b" \0"))
        if encoding is None:
            raise NotPlain
        values: dict[str, Any] = {}
        for tag, (at, value_at, end) in places.items():
            keyword, vr = self._wanted[tag]
            if vr == b"SQ":
                head = places.get(_CHARACTER_SET, (0, 0, 0))
                element = data[head[0] : head[2]] + data[at:end]
                values[keyword] = read_dataset(BytesIO(element), is_implicit, True)[tag].value
            else:
                values[keyword] = _value(data[value_at:end], vr, encoding)
        return values

    def _places(self, data: bytes, *, is_implicit: bool, is_whole: bool) -> dict[int, tuple[int, int, int]]:
        """Where each wanted element begins, where its value begins, and where it ends."""
        wanted, at = self._wanted, 0
        places: dict[int, tuple[int, int, int]] = {}
        while at < len(data):
            tag, vr, value_at, length = _head(data, at, is_implicit=is_implicit)
            if tag > _LAST_PIXELS:  # out of order: what is looked for may come after it
                raise NotPlain
            if tag >= _PIXELS:
                return places
            if length == _UNDEFINED:
                end = _past_sequence(data, value_at, is_implicit=is_implicit or vr == b"UN", depth=0)
            else:
                end = value_at + length
            if end > len(data):
                break
            if (entry := wanted.get(tag)) is not None:
                if not is_implicit and vr != entry[1]:
                    raise NotPlain
                places[tag] = (at, value_at, end)
            at = end
        if at != len(data) or not is_whole:
            raise NotPlain
        return places


def _head(data: bytes, at: int, *, is_implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR, place of the value and its length."""
    if is_implicit:
        group, number, length = _IMPLICIT.unpack_from(data, at)
        return group << 16 | number, b"", at + 8, length
    group, number, vr, length = _EXPLICIT.unpack_from(data, at)
    if vr in _LONG:
        return group << 16 | number, vr, at + 12, _LENGTH.unpack_from(data, at + 8)[0]
    if group == 0xFFFE or not vr.isalpha():
        return group << 16 | number, b"", at + 8, _LENGTH.unpack_from(data, at + 4)[0]
    return group << 16 | number, vr, at + 8, length


def _past_sequence(data: bytes, at: int, *, is_implicit: bool, depth: int) -> int:
    """Where a sequence of undefined length ends."""
    if depth > _DEEPEST:
        raise NotPlain
    while True:
        tag, _, at, length = _head(data, at, is_implicit=True)
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise NotPlain
        if length == _UNDEFINED:
            at = _past_item(data, at, is_implicit=is_implicit, depth=depth)
        else:
            at += length


def _past_item(data: bytes, at: int, *, is_implicit: bool, depth: int) -> int:
    while True:
        tag, vr, at, length = _head(data, at, is_implicit=is_implicit)
        if tag == _ITEM_END:
            return at
        if length == _UNDEFINED:
            at = _past_sequence(data, at, is_implicit=is_implicit or vr == b"UN", depth=depth + 1)
        else:
            at += length


def _value(raw: bytes, vr: bytes, encoding: str) -> str | int:
    if vr == b"US":
        if len(raw) != 2:
            raise NotPlain
        return int.from_bytes(raw, "little")
    text = raw.rstrip(b" \0")
    if b"\\" in text or b"\0" in text or b"\x1b" in text or text[:1] == b" ":
        raise NotPlain
    if (vr == b"IS" and not (text.isdigit() or not text)) or (vr == b"PN" and b"=" in text):
        raise NotPlain
    try:
        return text.decode(encoding)
    except UnicodeDecodeError:
        raise NotPlain from None
