"""From stored pixels to modality values, one instance at a time (PS3.3 C.7.6.3, C.11.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array

from dicomnode.errors import Refused
from dicomnode.imaging.elements import number_of, text_of


def require_grey(headers: Sequence[Dataset]) -> None:
    """Raises Refused NOT_AN_IMAGE, COLOUR or MONOCHROME1 unless each header is of a grey image.

    MONOCHROME1 is refused and not inverted: how a value is shown does not change what it means, and where
    a volume has it, its writer may have meant either.
    """
    for number, ds in enumerate(headers, 1):
        photometric = text_of(ds, "PhotometricInterpretation")
        where = f"instance {number} of {len(headers)}"
        if not photometric or not number_of(ds, "Rows") or not number_of(ds, "Columns"):
            raise Refused("NOT_AN_IMAGE", f"{where} is no image ({_kind(ds)})")
        if photometric == "MONOCHROME1":
            raise Refused("MONOCHROME1", f"{where} is stored inverted (MONOCHROME1)")
        if photometric != "MONOCHROME2" or number_of(ds, "SamplesPerPixel") not in (None, 1.0):
            raise Refused("COLOUR", f"{where} is a colour image")


def modality_values(path: Path) -> NDArray[np.float32]:
    """The slice in `path` after Rescale Slope and Intercept, shape (rows, columns).

    Raises what pydicom and its decoders raise, `headers.UNREADABLE`; ValueError where the pixels do not
    have the size that the header says.
    """
    ds = pydicom.dcmread(path)
    if int(ds.HighBit) != int(ds.BitsStored) - 1:
        raise ValueError("HighBit is not BitsStored - 1")
    stored = pixel_array(ds)
    if stored.shape != (ds.Rows, ds.Columns):
        raise ValueError(f"pixels of shape {stored.shape} under a header of {(ds.Rows, ds.Columns)}")
    values: NDArray[np.float32] = apply_modality_lut(stored, ds).astype(np.float32)
    return values


def _kind(ds: Dataset) -> str:
    name = pydicom.uid.UID(text_of(ds, "SOPClassUID")).name
    return str(name) or "no SOP class"
