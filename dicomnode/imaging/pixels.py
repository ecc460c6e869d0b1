"""From stored pixels to modality values, a frame at a time (PS3.3 C.7.6.3, C.11.1, C.7.6.16.2.9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import data_element_generator
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import as_pixel_options

from dicomnode.imaging.codecs import plugin_for
from dicomnode.imaging.elements import number_of, value_of
from dicomnode.imaging.headers import Instance

Stored: TypeAlias = NDArray[Any]

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


class StoredFrames:
    """The stored pixels of one instance, as they lie in its file. Frames may be decoded in several threads.

    Raises `headers.UNREADABLE`, what pydicom and its decoders raise, and OSError.
    """

    def __init__(self, instance: Instance) -> None:
        ds, self._syntax = instance.ds, instance.ds.file_meta.TransferSyntaxUID
        self._keyword, self._vr, self._value = _element(instance)
        if self._keyword == "PixelData" and int(ds.HighBit) != int(ds.BitsStored) - 1:
            raise ValueError("HighBit is not BitsStored - 1")
        self._ds, self._shape = ds, (int(ds.Rows), int(ds.Columns))
        self._count = int(number_of(ds, "NumberOfFrames") or 1)
        self._frames = list(self._encapsulated()) if self._syntax.is_encapsulated else []

    def decode(self, frame: int | None) -> Stored:
        """Stored values of a frame, counted from 1; shape (rows, columns)."""
        index = (frame or 1) - 1
        if self._is_plain():
            return self._plain(index)
        if self._syntax.is_encapsulated:
            source, index, count = encapsulate([self._frames[index]], has_bot=False), 0, 1
        else:
            source, count = self._value, self._count
        options = as_pixel_options(
            self._ds, pixel_keyword=self._keyword, pixel_vr=self._vr, number_of_frames=count
        )
        options.pop("extended_offsets", None)
        stored, _ = get_decoder(self._syntax).as_array(
            source, index=index, decoding_plugin=plugin_for(self._syntax), **options
        )
        if stored.shape != self._shape:
            raise ValueError(f"pixels of shape {stored.shape} under a header of {self._shape}")
        return stored

    def _encapsulated(self) -> Iterator[bytes]:
        offsets = as_pixel_options(self._ds).get("extended_offsets")
        return generate_frames(self._value, number_of_frames=self._count, extended_offsets=offsets)

    def _is_plain(self) -> bool:
        """Whether the values are the bytes themselves, as in most uncompressed instances."""
        return (
            self._keyword == "PixelData"
            and self._syntax.is_little_endian
            and not self._syntax.is_encapsulated
            and int(self._ds.BitsAllocated) in (8, 16)
            and number_of(self._ds, "SamplesPerPixel") in (None, 1.0)
        )

    def _plain(self, index: int) -> Stored:
        bits, unused = int(self._ds.BitsAllocated), int(self._ds.BitsAllocated) - int(self._ds.BitsStored)
        dtype = np.dtype(f"<{'i' if self._ds.PixelRepresentation else 'u'}{bits // 8}")
        size = self._shape[0] * self._shape[1]
        stored = np.frombuffer(self._value, dtype, size, index * size * dtype.itemsize)
        if unused:
            # What stands in the bits above those stored is not part of the value (PS3.5 8.1.1).
            stored = np.right_shift(np.left_shift(stored, unused), unused)
        return stored.reshape(self._shape)


def to_modality_values(stored: Stored, header: Dataset, out: NDArray[np.float32]) -> None:
    """Write the modality values of a plane (HU in CT) into `out`, of the shape (rows, columns) of `stored`.

    `header` is that of the plane: Rescale Slope and Intercept may differ from slice to slice and from frame
    to frame, and in PET they do.
    """
    if value_of(header, "ModalityLUTSequence") is not None:
        out[...] = apply_modality_lut(stored, header)
        return
    slope, intercept = _rescale(header)
    if slope == 1 and stored.dtype.itemsize <= 2 and intercept == np.float32(intercept):
        # Numbers of 16 bits lose nothing in float32, and no array of float64 is made on the way.
        out[...] = stored
        out += np.float32(intercept)
    else:
        out[...] = stored * np.float64(slope) + intercept


def modality_range(header: Dataset) -> tuple[float, float]:
    """The least and the greatest modality value that the stored bits of a plane can mean."""
    if (lut := value_of(header, "ModalityLUTSequence")) is not None:
        return 0.0, float(2 ** int(lut[0].LUTDescriptor[2]) - 1)
    bits, signed = int(header.BitsStored), int(header.PixelRepresentation)
    slope, intercept = _rescale(header)
    lowest, count = (-(2 ** (bits - 1)), 2**bits) if signed else (0, 2**bits)
    ends = sorted((lowest * slope + intercept, (lowest + count - 1) * slope + intercept))
    return ends[0], ends[1]


def _rescale(header: Dataset) -> tuple[float, float]:
    slope, intercept = number_of(header, "RescaleSlope"), number_of(header, "RescaleIntercept")
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def _element(instance: Instance) -> tuple[str, str | None, bytes]:
    """Keyword, VR and bytes of the element that holds the pixels."""
    element = _whole(instance) if instance.pixels_at is None else _at(instance, instance.pixels_at)
    keyword = "" if element is None else keyword_for_tag(element.tag)
    if element is None or keyword not in _PIXELS:
        raise ValueError("no pixel data")
    return keyword, element.VR, element.value


def _whole(instance: Instance) -> Any:
    ds = pydicom.dcmread(instance.path)
    return next((ds[keyword] for keyword in _PIXELS if keyword in ds), None)


def _at(instance: Instance, start: int) -> Any:
    implicit, little = instance.ds.original_encoding
    with instance.path.open("rb") as file:
        file.seek(start)
        return next(data_element_generator(file, bool(implicit), bool(little)), None)
