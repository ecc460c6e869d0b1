"""Instances that come as metadata and bulk data, and become data sets (PS3.18 10.5.1, 8.7.3, F; PS3.19 A)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from pydicom import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.dicomweb.dicom_json import JSONDataset
from dicomnode.dicomweb.jpeg_process import transfer_syntax_of
from dicomnode.dicomweb.media import DICOM_JSON, OCTET_STREAM, MediaType
from dicomnode.dicomweb.native_model import from_xml
from dicomnode.errors import BadRequest, NotDicom, RequestTooLarge, UnsupportedMediaType
from dicomnode.imaging.headers import UNREADABLE

MAXIMUM_METADATA = 256_000_000
"""Bytes of metadata in one request, which are held in memory."""
_PIXEL_DATA = "7FE00010"
_PIXEL_DATA_VALUE = 0x7FE00010
_ENCODED: Mapping[str, str] = MappingProxyType(
    {
        "image/jpeg": "1.2.840.10008.1.2.4.70",
        "image/dicom-rle": "1.2.840.10008.1.2.5",
        "image/jls": "1.2.840.10008.1.2.4.80",
        "image/jp2": "1.2.840.10008.1.2.4.90",
        "image/jpx": "1.2.840.10008.1.2.4.92",
        "image/jphc": "1.2.840.10008.1.2.4.201",
        "image/jxl": "1.2.840.10008.1.2.4.110",
        "video/mpeg2": "1.2.840.10008.1.2.4.100",
        "video/mp4": "1.2.840.10008.1.2.4.102",
    }
)
"""Media types of pixel data in one fragment, each with its default transfer syntax (PS3.18 8.7.3.3)."""
_EMPTY_OFFSET_TABLE = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
_ITEM = struct.Struct("<HHI")
_DELIMITER = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_UNDEFINED = 0xFFFFFFFF
_LARGEST = _UNDEFINED - 1
_BLOCK = 1_048_576


class Scratch(Protocol):
    """Bytes on disk that are no instance yet."""

    path: Path

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes."""

    def discard(self) -> None:
        """Leave nothing of it."""


@dataclass(slots=True)
class BulkData:
    """One part of bulk data: what it is, and where it lies."""

    kind: MediaType
    scratch: Scratch
    size: int = 0

    def write(self, data: memoryview) -> None:
        """Add bytes."""
        self.scratch.write(data)
        self.size += len(data)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, padded to an even length (PS3.5 7.1.1)."""
        with self.scratch.path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
        if self.size % 2:
            yield b"\x00"


class MetadataParts:
    """Collects the parts of a request; the data sets are made when all have come."""

    def __init__(self, scratch: Callable[[], Scratch]) -> None:
        self._scratch = scratch
        self._documents: list[tuple[str, bytearray]] = []
        self._bulk: dict[str, BulkData] = {}
        self._size = 0

    def add_document(self, essence: str) -> None:
        """A document of metadata begins."""
        self._documents.append((essence, bytearray()))

    def write_document(self, data: memoryview) -> None:
        """Add bytes to it. Raises RequestTooLarge."""
        self._size += len(data)
        if self._size > MAXIMUM_METADATA:
            raise RequestTooLarge(MAXIMUM_METADATA, "bytes of metadata")
        self._documents[-1][1].extend(data)

    def add_bulk(self, location: str, kind: MediaType) -> BulkData:
        """Bulk data begin; `location` is what the metadata call them. Raises BadRequest."""
        if not location or location in self._bulk:
            raise BadRequest("bulk data without a Content-Location of their own")
        self._bulk[location] = BulkData(kind, self._scratch())
        return self._bulk[location]

    def instances(self) -> list[MetadataInstance]:
        """One for each data set of the documents.

        Raises BadRequest where a document cannot be read, or names bulk data that are not in this request:
        nothing is ever fetched.
        """
        models = [model for essence, text in self._documents for model in _models(essence, bytes(text))]
        return [MetadataInstance(model, self._bulk) for model in models]

    def discard(self) -> None:
        """Leave nothing of the bulk data."""
        for bulk in self._bulk.values():
            bulk.scratch.discard()


class MetadataInstance:
    """One data set, whose large values are still on disk."""

    def __init__(self, model: JSONDataset, bulk: Mapping[str, BulkData]) -> None:
        self._bulk = {
            tag: (str(content.get("vr")), _found(content["BulkDataURI"], bulk))
            for tag, content in model.items()
            if "BulkDataURI" in content
        }
        inline = {tag: content for tag, content in model.items() if tag not in self._bulk}
        try:
            self.ds = Dataset.from_json(inline, lambda _, __, uri: b"".join(_found(uri, bulk).blocks()))
        except UNREADABLE as error:
            raise BadRequest(f"metadata cannot be read: {type(error).__name__}") from error
        self.ds.SpecificCharacterSet = "ISO_IR 192"

    @property
    def transfer_syntax(self) -> str:
        """What the pixel data are encoded in; Explicit VR Little Endian where they are not compressed."""
        if _PIXEL_DATA not in self._bulk:
            return str(ExplicitVRLittleEndian)
        bulk = self._bulk[_PIXEL_DATA][1]
        kind = bulk.kind
        if kind.essence == OCTET_STREAM:
            return str(ExplicitVRLittleEndian)
        if kind.essence not in _ENCODED:
            raise UnsupportedMediaType(f"pixel data of {kind.essence}")
        if int(self.ds.get("NumberOfFrames") or 1) > 1 and not kind.essence.startswith("video/"):
            raise UnsupportedMediaType(f"more than one frame in {kind.essence}")
        if (told := kind.parameters.get("transfer-syntax")) is not None:
            return told
        # The default is lossless; what cameras and browsers make is not, and only its own bytes say so.
        seen = transfer_syntax_of(next(bulk.blocks(), b"")) if kind.essence == "image/jpeg" else None
        return seen or _ENCODED[kind.essence]

    def write_to(self, write: Callable[[bytes], None]) -> None:
        """Encode the data set, block by block, in its transfer syntax. Raises NotDicom."""
        tags = sorted({*(f"{tag:08X}" for tag in self.ds.keys()), *self._bulk})  # noqa: SIM118  tags, not elements
        for tag in tags:
            if tag[:4] <= "0002":
                continue
            if tag in self._bulk:
                for block in _encoded_bulk(int(tag, 16), *self._bulk[tag]):
                    write(block)
            else:
                write(self._encoded(int(tag, 16)))

    def _encoded(self, tag: int) -> bytes:
        one = Dataset()
        try:
            one.add(self.ds[tag])
            buffer = BytesIO()
            file = DicomIO(buffer)
            file.is_little_endian, file.is_implicit_VR = True, False
            write_dataset(file, one, "ISO_IR 192")
        except UNREADABLE as error:
            raise NotDicom(f"({tag:08X}) cannot be encoded: {type(error).__name__}") from error
        return buffer.getvalue()


def _found(uri: object, bulk: Mapping[str, BulkData]) -> BulkData:
    if not isinstance(uri, str) or uri not in bulk:
        raise BadRequest("a BulkDataURI names nothing in this request; it is not fetched")
    return bulk[uri]


def _models(essence: str, text: bytes) -> list[JSONDataset]:
    if essence != DICOM_JSON:
        return [from_xml(text)]
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the metadata are no JSON: {type(error).__name__}") from None
    models = found if isinstance(found, list) else [found]
    if not all(_is_model(model) for model in models):
        raise BadRequest("the metadata are no data sets in the DICOM JSON model")
    return models


def _is_model(model: object) -> bool:
    return isinstance(model, dict) and all(
        len(tag) == 8
        and all(digit in "0123456789ABCDEFabcdef" for digit in tag)
        and isinstance(content, dict)
        for tag, content in model.items()
    )


def _encoded_bulk(tag: int, vr: str, bulk: BulkData) -> Iterator[bytes]:
    """One element in Explicit VR Little Endian (PS3.5 7.1.2, A.4)."""
    if vr not in ("OB", "OD", "OF", "OL", "OV", "OW", "UN", "UT", "UC", "UR"):
        raise NotDicom(f"({tag:08X}) has bulk data and the VR {vr}")
    size = bulk.size + bulk.size % 2
    if size > _LARGEST:
        raise NotDicom(f"({tag:08X}) is longer than an element can be")
    group, number = tag >> 16, tag & 0xFFFF
    if tag == _PIXEL_DATA_VALUE and bulk.kind.essence != OCTET_STREAM:
        yield struct.pack("<HH2sHI", group, number, b"OB", 0, _UNDEFINED) + _EMPTY_OFFSET_TABLE
        yield _ITEM.pack(0xFFFE, 0xE000, size)
        yield from bulk.blocks()
        yield _DELIMITER
    else:
        yield struct.pack("<HH2sHI", group, number, vr.encode("ascii"), 0, size)
        yield from bulk.blocks()
