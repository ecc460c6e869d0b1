"""The structure of a data set, walked from header to header (PS3.5 7, A.4).

Refused is what would lead a reader astray: lengths that lie, items without an end, endless nesting, images
that cannot be. What is merely odd is let through: elements out of order, unknown VRs, Implicit VR inside
Explicit VR. Values are passed over, but for the few that say how large an image is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from struct import Struct
from typing import NamedTuple

from pydicom._dicom_dict import DicomDictionary
from pydicom.uid import UID

from dicomnode.errors import NotDicom
from dicomnode.model.limits import InstanceLimits

Source = Callable[[int], bytes]
"""The bytes of a data set from a place on: as many as are at hand, `LEAST_WINDOW` unless it ends before."""
LEAST_WINDOW = 64

MAXIMUM_PIXEL_BYTES = 2**40
"""No image is larger when it is decompressed."""
MAXIMUM_MISSING_BYTES = 2**30
"""So much of what its header tells of may the pixels of an uncompressed image lack: the rest can be read."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_FRAMES, _ROWS, _COLUMNS, _SAMPLES, _BITS = 0x00280008, 0x00280010, 0x00280011, 0x00280002, 0x00280100
_PIXEL_DATA = 0x7FE00010
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, _PIXEL_DATA))
_IMAGE = frozenset((_FRAMES, _ROWS, _COLUMNS, _SAMPLES, _BITS))
_SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
_NOT_PLAIN = _SEQUENCES | _PIXELS | {_ITEM, _ITEM_END, _SEQUENCE_END}
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONGEST_HEADER = 12
_NUMBER = re.compile(rb"[ \0]*\+?([0-9]{1,10})(?:\.0*)?[ \0]*")


def check_structure(
    source: Source,
    size: int,
    TransferSyntaxUID: str,
    limits: InstanceLimits,
    sought: frozenset[int] = frozenset(),
) -> Mapping[int, int]:
    """Walk over a data set of `size` bytes, inflated where the syntax is a deflated one. Raises NotDicom.

    Returns where elements begin that are `sought`, by tag: those outside sequences and ahead of the pixels.
    """
    return _Walk(source, size, _encoding(TransferSyntaxUID), limits, sought).walk()


class _Encoding(NamedTuple):
    """What a transfer syntax says of the headers of elements, and how those are unpacked."""

    is_little_endian: bool
    is_implicit: bool
    explicit: Struct
    implicit: Struct
    long: Struct
    short: Struct


@cache
def _encoding(TransferSyntaxUID: str) -> _Encoding:
    syntax = UID(TransferSyntaxUID)
    order = "<" if syntax.is_little_endian else ">"
    structs = (Struct(order + form) for form in ("HH2sH", "HHL", "L", "H"))
    return _Encoding(syntax.is_little_endian, syntax.is_implicit_VR, *structs)


class _Level(NamedTuple):
    """A data set, or a sequence of items: ends at a place or, where it `is_open`, at a delimiter before."""

    end: int
    is_open: bool
    is_implicit: bool
    has_items: bool = False
    has_fragments: bool = False


class _Header(NamedTuple):
    tag: int
    vr: bytes
    length: int
    value_at: int


class _Walk:
    def __init__(
        self, source: Source, size: int, encoding: _Encoding, limits: InstanceLimits, sought: frozenset[int]
    ) -> None:
        self._unpack_explicit = encoding.explicit.unpack_from
        self._unpack_implicit = encoding.implicit.unpack_from
        self._unpack_long, self._unpack_short = encoding.long.unpack_from, encoding.short.unpack_from
        self._source, self._size, self._is_implicit, self._limits = source, size, encoding.is_implicit, limits
        self._window, self._base = source(0), 0
        self._at = self._count = 0
        self._levels = [_Level(size, is_open=False, is_implicit=encoding.is_implicit)]
        self._image: dict[int, int] = {}
        self._sought, self._places = sought, dict[int, int]()

    def walk(self) -> Mapping[int, int]:
        self._check_beginning()
        while self._levels:
            level = self._levels[-1]
            if level.has_items:
                self._take_item(level)
            else:
                self._pass_plain(level)
                self._take_element(level)
        self._check_image()
        return self._places

    def _check_beginning(self) -> None:
        """The first element tells whether the data set is encoded as its transfer syntax says."""
        if self._size < 8:
            raise NotDicom("there is no data set")
        group, _, vr, _ = self._unpack_explicit(self._window)
        if group > 0x0008 >= (group >> 8 | (group & 0xFF) << 8):
            raise NotDicom("the byte order is not that of the transfer syntax")
        if self._is_implicit == (vr in _SHORT or vr in _LONG):
            raise NotDicom("the VRs are not encoded as the transfer syntax says")

    def _pass_plain(self, level: _Level) -> None:
        """Pass over what the window shows of elements without items: nearly all there are."""
        window, base, at, count = self._window, self._base, self._at, self._count
        last = min(level.end, base + len(window)) - _LONGEST_HEADER
        watched = self._sought | _IMAGE if len(self._levels) == 1 else frozenset[int]()
        unpack_implicit, unpack_explicit = self._unpack_implicit, self._unpack_explicit
        is_implicit = level.is_implicit
        while at <= last:
            if is_implicit:
                group, number, length = unpack_implicit(window, at - base)
                tag = group << 16 | number
                if length == _UNDEFINED or tag in _NOT_PLAIN:
                    break
            else:
                group, number, vr, length = unpack_explicit(window, at - base)
                if vr not in _SHORT:
                    break
                tag = group << 16 | number
            if tag in watched:
                if tag in _IMAGE and at + 8 + length > base + len(window):
                    break
                self._note(tag, at, at + 8, length)
            at, count = at + 8 + length, count + 1
        self._at, self._count = at, count

    def _take_element(self, level: _Level) -> None:
        if level.end - self._at < 8:
            self._end_at_place(level)
            return
        header = self._header(level)
        if len(self._levels) == 1:
            self._note(header.tag, self._at, header.value_at, header.length)
        if header.tag in (_ITEM_END, _SEQUENCE_END, _ITEM):
            self._end_at_delimiter(level, header, _ITEM_END)
        elif header.length == _UNDEFINED or header.vr == b"SQ":
            self._enter(level, header)
        else:
            self._at = header.value_at + header.length

    def _header(self, level: _Level) -> _Header:
        offset = self._see()
        group, number, vr, length = self._unpack_explicit(self._window, offset)
        tag, value_at = group << 16 | number, self._at + 8
        if not level.is_implicit and vr in _LONG:
            if len(self._window) < offset + _LONGEST_HEADER:
                raise NotDicom("the data set ends within an element")
            (length,) = self._unpack_long(self._window, offset + 8)
            value_at += 4
        elif level.is_implicit or not b"AA" <= vr <= b"ZZ":
            # Some writers change to Implicit VR within sequences, or for single elements.
            (length,) = self._unpack_long(self._window, offset + 4)
            vr = b"SQ" if tag in _SEQUENCES else b""
        return _Header(tag, vr, length, value_at)

    def _see(self) -> int:
        """Have the next bytes in the window; returns where they are in it."""
        self._count += 1
        if self._count > self._limits.elements:
            raise NotDicom(f"more than {self._limits.elements} elements")
        offset = self._at - self._base
        if offset + LEAST_WINDOW > len(self._window) < self._size - self._base:
            self._window, self._base, offset = self._source(self._at), self._at, 0
        return offset

    def _enter(self, level: _Level, header: _Header) -> None:
        """Go into a sequence, or into the fragments of encapsulated pixel data."""
        if len(self._levels) > 2 * self._limits.depth:
            raise NotDicom(f"sequences are nested more than {self._limits.depth} deep")
        is_open = header.length == _UNDEFINED
        end = level.end if is_open else header.value_at + header.length
        self._require_within(level, end)
        is_fragmented = is_open and header.tag not in _SEQUENCES and header.vr not in (b"SQ", b"UN", b"")
        if header.tag == _PIXEL_DATA:
            is_fragmented = True
        # What has the VR UN is Implicit VR inside (PS3.5 6.2.2).
        implicit = level.is_implicit or header.vr in (b"UN", b"")
        self._levels.append(_Level(end, is_open, implicit, has_items=True, has_fragments=is_fragmented))
        self._at = header.value_at

    def _take_item(self, level: _Level) -> None:
        if self._at == level.end and not level.is_open:
            self._levels.pop()
            return
        if level.end - self._at < 8:
            raise NotDicom("a sequence has no end")
        offset = self._see()
        group, number, length = self._unpack_implicit(self._window, offset)
        header = _Header(group << 16 | number, b"", length, self._at + 8)
        if header.tag != _ITEM:
            self._end_at_delimiter(level, header, _SEQUENCE_END)
            return
        is_open = length == _UNDEFINED
        end = level.end if is_open else header.value_at + length
        self._require_within(level, end)
        if not length:
            self._at = end
        elif not level.has_fragments:
            self._at = header.value_at
            self._levels.append(_Level(end, is_open, level.is_implicit or self._is_implicit_item(end)))
        elif is_open:
            raise NotDicom("a fragment has no length")
        else:
            self._at = end

    def _is_implicit_item(self, end: int) -> bool:
        if end - self._at < 8:
            return False
        offset = self._see()
        vr = self._window[offset + 4 : offset + 6]
        return not b"AA" <= vr <= b"ZZ"

    def _end_at_delimiter(self, level: _Level, header: _Header, expected: int) -> None:
        if header.tag != expected or not level.is_open:
            raise NotDicom("a delimiter is where none belongs, or is missing")
        self._at = header.value_at
        self._levels.pop()

    def _end_at_place(self, level: _Level) -> None:
        if level.is_open or self._at != level.end:
            raise NotDicom("the data set ends within an element or a sequence")
        self._levels.pop()

    def _require_within(self, level: _Level, end: int) -> None:
        if end > level.end:
            raise NotDicom("an element is longer than what it stands in")

    def _note(self, tag: int, at: int, value_at: int, length: int) -> None:
        """An element outside sequences: where it is, and what it says of the size of the image."""
        if tag in self._sought:
            self._places[tag] = at
        if tag in _PIXELS:
            self._sought = frozenset()
        if tag in _IMAGE and length != _UNDEFINED:
            self._measure(tag, value_at, length)
        elif tag == _PIXEL_DATA:
            self._image[_PIXEL_DATA] = -1 if length == _UNDEFINED else length

    def _measure(self, tag: int, value_at: int, length: int) -> None:
        at = value_at - self._base
        value = self._window[at : at + length]
        if tag == _FRAMES:
            match = _NUMBER.fullmatch(value) if length <= LEAST_WINDOW - _LONGEST_HEADER else None
            if value.strip(b" \0") and (match is None or int(match[1]) >= 2**31):
                raise NotDicom("NumberOfFrames is no number")
            self._image[_FRAMES] = int(match[1]) if match else 1
        elif length == 2 == len(value):
            (self._image[tag],) = self._unpack_short(value)
        elif length and tag in (_ROWS, _COLUMNS):
            raise NotDicom("Rows or Columns is no number of 16 bits")

    def _check_image(self) -> None:
        """Rows × Columns × frames in bytes, as far as the header tells."""
        image = self._image
        bits = image.get(_ROWS, 0) * image.get(_COLUMNS, 0) * (image.get(_FRAMES) or 1)
        bits *= (image.get(_SAMPLES) or 1) * (image.get(_BITS) or 1)
        held = image.get(_PIXEL_DATA, -1)
        if bits // 8 > (MAXIMUM_PIXEL_BYTES if held < 0 else held + MAXIMUM_MISSING_BYTES):
            raise NotDicom("the image is larger than can be")
