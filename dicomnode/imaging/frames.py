"""The frames of one stored file, one at a time: as they were stored, and as plain pixels (PS3.5 8, A.4)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from dicomnode.imaging.codecs import plugin_for
from dicomnode.imaging.elements import number_of
from dicomnode.imaging.headers import read_instances

_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OW", b"UN"})
_UNDEFINED = 0xFFFFFFFF


class FrameFile:
    """A file with pixel data; its frames are numbered from 1.

    Frames are read where they lie: memory holds one of them. Raises Refused where the file is no DICOM file,
    ValueError where it has no pixel data or no such frame; decoders raise `headers.UNREADABLE`.
    """

    def __init__(self, path: Path) -> None:
        (instance,) = read_instances([path])
        self._path, self.ds = path, instance.ds
        self.syntax: UID = instance.ds.file_meta.TransferSyntaxUID
        self._deflated = dcmread(path) if instance.pixels_at is None else None
        if self._deflated is not None:
            self._keyword = next((word for word in _KEYWORDS.values() if word in self._deflated), "")
            self._vr: str | None = None
            self._start, self._length = 0, 0
        else:
            self._keyword, self._vr, self._start, self._length = self._find(instance.pixels_at or 0)
        if not self._keyword:
            raise ValueError("no pixel data")
        self.count = int(number_of(self.ds, "NumberOfFrames") or 1)

    def _find(self, at: int) -> tuple[str, str | None, int, int]:
        """Keyword and VR of the element that holds the pixels; where its value begins, and its length."""
        implicit, little = self.ds.original_encoding
        with self._path.open("rb") as file:
            file.seek(at)
            head = file.read(12)
        if len(head) < 8:
            return "", None, at, 0
        order = "<" if little else ">"
        group, element = struct.unpack(f"{order}HH", head[:4])
        keyword = _KEYWORDS.get(group << 16 | element, "")
        if implicit:
            return keyword, None, at + 8, struct.unpack(f"{order}L", head[4:8])[0]
        if head[4:6] not in _LONG_VRS or len(head) < 12:
            return "", None, at, 0
        return keyword, head[4:6].decode(), at + 12, struct.unpack(f"{order}L", head[8:12])[0]

    def stored(self, number: int) -> bytes:
        """One frame as it was stored; of a compressed transfer syntax its code stream."""
        self._require(number)
        if self.syntax.is_encapsulated:
            with self._path.open("rb") as file:
                file.seek(self._start)
                offsets = as_pixel_options(self.ds).get("extended_offsets")
                return get_frame(file, number - 1, extended_offsets=offsets, number_of_frames=self.count)
        if int(self.ds.get("BitsAllocated", 0)) == 1:
            return self._bits(number)
        size = self._frame_size
        return self._read((number - 1) * size, size)

    def plain(self, number: int) -> bytes:
        """One frame as Explicit VR Little Endian has it; as RGB where colours were compressed."""
        little = not self.syntax.is_encapsulated and self.syntax.is_little_endian
        if little or self._is_bytes:
            return self.stored(number)
        array = self.array(number)
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()

    def array(self, number: int) -> NDArray[Any]:
        """One frame of shape (rows, columns) or (rows, columns, 3), colours as RGB."""
        self._require(number)
        if int(self.ds.get("BitsAllocated", 0)) == 1:
            bits = np.unpackbits(np.frombuffer(self._bits(number), np.uint8), bitorder="little")
            return bits[: self._pixels].reshape(int(self.ds.Rows), int(self.ds.Columns))
        options = as_pixel_options(
            self.ds, pixel_keyword=self._keyword, pixel_vr=self._vr or "OW", number_of_frames=1
        )
        options.pop("extended_offsets", None)
        stored = self.stored(number)
        if self.syntax.is_encapsulated:
            stored = encapsulate([stored], has_bot=False)
        array, _ = get_decoder(self.syntax).as_array(
            stored, index=0, decoding_plugin=plugin_for(self.syntax), **options
        )
        return array

    @property
    def extent(self) -> tuple[int, int] | None:
        """First byte and length of the value in the file; None where that is not the plain value itself."""
        plain = not self.syntax.is_encapsulated and self.syntax.is_little_endian and self._deflated is None
        return (self._start, self._length) if plain and self._length != _UNDEFINED else None

    @property
    def _pixels(self) -> int:
        return int(self.ds.Rows) * int(self.ds.Columns) * int(number_of(self.ds, "SamplesPerPixel") or 1)

    @property
    def _is_bytes(self) -> bool:
        return not self.syntax.is_encapsulated and int(self.ds.get("BitsAllocated", 0)) == 1

    @property
    def _frame_size(self) -> int:
        size = {"FloatPixelData": 4, "DoubleFloatPixelData": 8}.get(self._keyword)
        return self._pixels * (size or int(self.ds.BitsAllocated) // 8)

    def _bits(self, number: int) -> bytes:
        """A frame of single bits, moved to begin with a byte: in the value it need not (PS3.5 8.1.1)."""
        first = (number - 1) * self._pixels
        if self.syntax.is_encapsulated:
            raise NotImplementedError("compressed single bits")
        held = self._read(first // 8, (first % 8 + self._pixels + 7) // 8)
        bits = np.unpackbits(np.frombuffer(held, np.uint8), bitorder="little")
        return np.packbits(bits[first % 8 : first % 8 + self._pixels], bitorder="little").tobytes()

    def _read(self, start: int, size: int) -> bytes:
        if self._deflated is not None:
            found: bytes = self._deflated[self._keyword].value[start : start + size]
        else:
            with self._path.open("rb") as file:
                file.seek(self._start + start)
                found = file.read(size)
        if len(found) != size:
            raise ValueError("the pixel data is shorter than its header says")
        return found

    def _require(self, number: int) -> None:
        if not 1 <= number <= self.count:
            raise ValueError(f"there is no frame {number} of {self.count}")
