"""The headers of a series, read without their pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian

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


@dataclass(frozen=True, slots=True)
class Instance:
    """A file: its data set without the pixel data, and the byte where the element of the pixel data begins.

    `pixels_at` is None where the data set is deflated: its bytes are no bytes of the file (PS3.5 A.5).
    """

    path: Path
    ds: Dataset
    pixels_at: int | None


def read_headers(paths: Sequence[Path]) -> list[Dataset]:
    """The data set of each file without its pixel data, in the order of `paths`.

    Raises Refused NOT_DICOM where one is no DICOM file (PS3.10 7); OSError where it cannot be opened.
    """
    return list(each_header(paths))


def each_header(paths: Sequence[Path]) -> Iterator[Dataset]:
    """As `read_headers`, one when it is asked for."""
    return (instance.ds for instance in _each_instance(paths))


def read_instances(paths: Sequence[Path]) -> list[Instance]:
    """As `read_headers`, with the way to the pixels."""
    return list(_each_instance(paths))


def _each_instance(paths: Sequence[Path]) -> Iterator[Instance]:
    return (_read(path, number, len(paths)) for number, path in enumerate(paths, 1))


def _read(path: Path, number: int, total: int) -> Instance:
    try:
        with path.open("rb") as file:
            ds = pydicom.dcmread(file, stop_before_pixels=True)
            deflated = ds.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
            return Instance(path, ds, None if deflated else file.tell())
    except InvalidDicomError:
        raise Refused("NOT_DICOM", f"instance {number} of {total} is no DICOM file") from None
    except UNREADABLE as error:
        kind = type(error).__name__
        raise Refused("NOT_DICOM", f"the header of instance {number} of {total} is broken ({kind})") from None
