"""A stored file in another transfer syntax; what is compressed here is compressed without loss (PS3.5 A)."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicomnode.imaging.codecs import plugin_for


def _jpeg_2000(frame: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k", reversible=True, mct=False))


def _htj2k(frame: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.htj2k_encode(frame, reversible=True))


def _jpeg_ls(frame: NDArray[Any]) -> bytes:
    """Raises ValueError for signed values, which JPEG-LS does not know."""
    return bytes(imagecodecs.jpegls_encode(frame))


_ENCODERS: dict[str, Callable[[NDArray[Any]], bytes]] = {
    JPEG2000Lossless: _jpeg_2000,
    JPEGLSLossless: _jpeg_ls,
    HTJ2KLossless: _htj2k,
}
TARGETS = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, *map(UID, _ENCODERS))
"""What a file can be transcoded to, where its pixels allow it."""
_SWAPPED = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def transcoded(path: Path, syntax: UID) -> tuple[bytes, UID]:
    """The whole file in one of TARGETS, and in which: without pixels nothing is compressed.

    The SOP Instance UID stays, and so do the pixel values. Raises `headers.UNREADABLE` where it cannot be
    read, or where its pixels do not go into that transfer syntax.
    """
    ds = dcmread(path)
    stored: UID = ds.file_meta.TransferSyntaxUID
    if stored.is_encapsulated:
        ds.decompress(generate_instance_uid=False, decoding_plugin=plugin_for(stored))
    elif not stored.is_little_endian:
        ds.walk(_swap)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax.is_compressed and "PixelData" not in ds:
        syntax = ExplicitVRLittleEndian
    if syntax in _ENCODERS:
        _compress(ds, syntax)
    elif syntax == RLELossless:
        ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    elif syntax not in TARGETS:
        raise ValueError("no way to that transfer syntax")
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    dcmwrite(buffer, ds, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return buffer.getvalue(), syntax


def encoded_frame(frame: NDArray[Any], syntax: str) -> bytes:
    """One frame of shape (rows, columns[, 3]) as a code stream; ValueError where it does not go into it."""
    if syntax not in _ENCODERS:
        raise ValueError("no encoder for that transfer syntax")
    return _ENCODERS[syntax](np.ascontiguousarray(frame))


def _compress(ds: Dataset, syntax: UID) -> None:
    if int(ds.BitsAllocated) not in (8, 16):
        raise ValueError("only integers of 8 and 16 bits are compressed")
    array = pixel_array(ds)
    frames = array if int(ds.get("NumberOfFrames") or 1) > 1 else array[None]
    ds.PixelData = encapsulate([encoded_frame(frame, syntax) for frame in frames])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    if int(ds.SamplesPerPixel) > 1:
        ds.PlanarConfiguration, ds.PhotometricInterpretation = 0, "RGB"


def _swap(_: Dataset, element: DataElement) -> None:
    """pydicom turns numbers around as it writes them, and leaves words as they are."""
    size = _SWAPPED.get(element.VR)
    if size and isinstance(element.value, bytes):
        element.value = np.frombuffer(element.value, f"V{size}").view(f"u{size}").byteswap().tobytes()


def can_decode(syntax: str) -> bool:
    """Whether the pixels of a transfer syntax can be had here: of videos they cannot."""
    uid = UID(syntax)
    if not uid.is_encapsulated:
        return True
    try:
        return bool(plugin_for(uid)) or bool(get_decoder(uid).is_available)
    except NotImplementedError:
        return False
