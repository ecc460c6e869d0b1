"""A frame as a picture for the eye: modality LUT, VOI LUT, palette, inversion (PS3.3 C.11, PS3.4 N.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from dicomnode.imaging.elements import numbers_of, text_of, value_of
from dicomnode.imaging.frames import FrameFile
from dicomnode.imaging.pixels import to_modality_values

Picture = NDArray[np.uint8]
WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
_PER_FRAME = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


@dataclass(frozen=True, slots=True)
class Window:
    """`center` and `width` in modality values (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: WindowFunction = "LINEAR"


def render(file: FrameFile, number: int, window: Window | None = None) -> Picture:
    """A frame, (rows, columns) in greys or (rows, columns, 3) in RGB; black is 0.

    `window` goes before what the header says; without either the least value is black, the greatest white.
    Raises what FrameFile does.
    """
    stored, header = file.array(number), _header(file.ds, number)
    if stored.ndim == 3:
        return _eight_bits(stored, header)
    if text_of(header, "PhotometricInterpretation") == "PALETTE COLOR":
        return _eight_bits(apply_color_lut(stored, header), None)
    values = np.empty(stored.shape, np.float32)
    to_modality_values(stored, header, values)
    window = window or window_of(header)
    if window is None and (luts := value_of(header, "VOILUTSequence")) is not None:
        grey = _looked_up(values, luts[0])
    else:
        grey = _windowed(values, window) if window else _stretched(values)
    picture: Picture = np.rint(grey * 255).astype(np.uint8)
    return 255 - picture if _is_inverse(header) else picture


def _header(ds: Dataset, number: int) -> Dataset:
    """What concerns one frame, taken out of the functional groups (PS3.3 C.7.6.16)."""
    groups = [value_of(ds, "SharedFunctionalGroupsSequence") or []]
    groups.append((value_of(ds, "PerFrameFunctionalGroupsSequence") or [])[number - 1 : number])
    header = Dataset()
    header.update(ds)
    for group in (item for items in groups for item in items):
        for keyword in _PER_FRAME:
            for item in value_of(group, keyword) or ():
                header.update(item)
    return header


def _eight_bits(array: NDArray[Any], header: Dataset | None) -> Picture:
    bits = 8 * array.dtype.itemsize if header is None else int(header.BitsStored)
    picture: Picture = (array >> (bits - 8) if bits > 8 else array).astype(np.uint8)
    return picture


def window_of(header: Dataset) -> Window | None:
    """The first window of the header, where it has a usable one."""
    centers, widths = numbers_of(header, "WindowCenter"), numbers_of(header, "WindowWidth")
    if not centers or not widths or widths[0] <= 0:
        return None
    function = text_of(header, "VOILUTFunction")
    known: dict[str, WindowFunction] = {"LINEAR_EXACT": "LINEAR_EXACT", "SIGMOID": "SIGMOID"}
    return Window(centers[0], widths[0], known.get(function, "LINEAR"))


def _windowed(values: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """From 0 to 1 (PS3.3 C.11.2.1.2.1, C.11.2.1.3)."""
    if window.function == "SIGMOID":
        exponent = np.clip(-4 * (values - window.center) / window.width, -80, 80)
        return np.asarray(1 / (1 + np.exp(exponent)), np.float32)
    exact = window.function == "LINEAR_EXACT"
    center, width = (window.center, window.width) if exact else (window.center - 0.5, window.width - 1)
    if width <= 0:
        return (values > center).astype(np.float32)
    return np.asarray(np.clip((values - center) / width + 0.5, 0, 1), np.float32)


def _looked_up(values: NDArray[np.float32], lut: Dataset) -> NDArray[np.float32]:
    """From 0 to 1 by a VOI LUT (PS3.3 C.11.2.1.1); pydicom's goes wrong where entries have 8 bits."""
    entries, first, bits = (int(value) for value in lut.LUTDescriptor)
    entries, data = entries or 65536, lut.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) == entries else "<u2")
    index = np.clip(np.rint(values) - first, 0, min(entries, len(data)) - 1).astype(np.intp)
    return np.asarray(np.asarray(data, np.float32)[index] / (2**bits - 1), np.float32)


def _stretched(values: NDArray[Any]) -> NDArray[np.float32]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if high <= low:
        return np.zeros(values.shape, np.float32)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low)
    return np.asarray(scaled, np.float32)


def _is_inverse(header: Dataset) -> bool:
    shape = text_of(header, "PresentationLUTShape")
    inverse = text_of(header, "PhotometricInterpretation") == "MONOCHROME1"
    return inverse if not shape else shape == "INVERSE"
