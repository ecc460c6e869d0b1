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
_CHARACTER_SET = 0x00080005
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_EXPLICIT, _IMPLICIT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")
_DEEPEST = 64
_SHORT_HEAD = 8
"""Bytes ahead of the values that are read here."""


class NotPlain(Exception):
    """The header has something that only pydicom reads."""


class PlainHeader:
    """Reads the elements of some keywords; `tags` are theirs."""

    def __init__(self, keywords: tuple[str, ...]) -> None:
        tags = {keyword: tag_for_keyword(keyword) for keyword in keywords}
        self._wanted = {
            tag: (keyword, dictionary_VR(tag).encode()) for keyword, tag in tags.items() if tag is not None
        }
        self.tags = frozenset(self._wanted)

    def read(self, data: bytes, places: Mapping[int, int], *, is_implicit: bool) -> Mapping[str, Any]:
        """Their values by keyword. Raises NotPlain.

        `data` is the beginning of a data set in Little Endian; `places` are where the elements begin, by tag.
        """
        charset = b""
        try:
            if (at := places.get(_CHARACTER_SET)) is not None:
                charset = self._element(data, _CHARACTER_SET, at, is_implicit=is_implicit)
            encoding = _CHARACTER_SETS.get(charset[_SHORT_HEAD:].strip(b" \0"))
            if encoding is None:
                raise NotPlain
            values: dict[str, Any] = {}
            for tag, at in places.items():
                keyword, vr = self._wanted[tag]
                element = self._element(data, tag, at, is_implicit=is_implicit)
                if vr == b"SQ":
                    values[keyword] = read_dataset(BytesIO(charset + element), is_implicit, True)[tag].value
                else:
                    values[keyword] = _value(element[_SHORT_HEAD:], vr, encoding)
        except struct.error:
            raise NotPlain from None
        return values

    def _element(self, data: bytes, tag: int, at: int, *, is_implicit: bool) -> bytes:
        """The bytes of an element, its head among them. Raises NotPlain and struct.error."""
        _, vr, value_at, length = _head(data, at, is_implicit=is_implicit)
        if not is_implicit and vr != self._wanted[tag][1]:
            raise NotPlain
        if length == _UNDEFINED:
            end = _past_sequence(data, value_at, is_implicit=is_implicit, depth=0)
        else:
            end = value_at + length
        if end > len(data):
            raise NotPlain
        return data[at:end]


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
