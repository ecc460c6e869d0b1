"""JPEG 2000, HTJ2K and JPEG-LS by imagecodecs, which lets other threads run meanwhile.

So slices decode at once. It is a plug-in of pydicom, whose decoders put right what encoders disagree about
(sign, precision).
"""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

PLUGIN = "imagecodecs"
DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {}
"""Asked for by pydicom; what this plug-in needs is installed with dicomnode."""

_JPEG_2000 = frozenset({JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL})
_JPEG_LS = frozenset({JPEGLSLossless, JPEGLSNearLossless})


def is_available(uid: str) -> bool:
    """Whether this plug-in decodes the transfer syntax."""
    return uid in _JPEG_2000 | _JPEG_LS


def plugin_for(uid: str) -> str:
    """The name of the plug-in to decode the transfer syntax with; "" lets pydicom choose."""
    if not is_available(uid):
        return ""
    decoder = get_decoder(uid)
    if PLUGIN not in decoder.available_plugins:
        decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
    return PLUGIN


def decode_frame(src: bytes, runner: Any) -> bytes:
    """The samples of one frame, as pydicom's `DecodeRunner` wants them from a plug-in."""
    decode = imagecodecs.jpeg2k_decode if runner.transfer_syntax in _JPEG_2000 else imagecodecs.jpegls_decode
    frame: np.ndarray[Any, np.dtype[Any]] = decode(bytes(src))
    runner.set_option("bits_allocated", 8 * frame.dtype.itemsize)
    return frame.tobytes()
