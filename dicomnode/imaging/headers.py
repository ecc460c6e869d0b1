"""The headers of a series, read without their pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from dicomnode.errors import Refused

UNREADABLE = (
    AttributeError,
    BytesLengthException,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom and its decoders raise on bytes that they cannot make sense of."""


def read_headers(paths: Sequence[Path]) -> list[Dataset]:
    """The data set of each file without its pixel data, in the order of `paths`.

    Raises Refused NOT_DICOM where one is no DICOM file (PS3.10 7); OSError where it cannot be opened.
    """
    return [_read_header(path, number, len(paths)) for number, path in enumerate(paths, 1)]


def _read_header(path: Path, number: int, total: int) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        raise Refused("NOT_DICOM", f"instance {number} of {total} is no DICOM file") from None
    except UNREADABLE as error:
        kind = type(error).__name__
        raise Refused("NOT_DICOM", f"the header of instance {number} of {total} is broken ({kind})") from None
