"""WADO-RS: frames and bulk data are retrieved (PS3.18 10.4.1.1.5, 10.4.1.1.6)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import DataElement
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dicomnode.dicomweb.answers import (
    Content,
    FileSlice,
    Part,
    after,
    etag_of,
    multipart,
    not_modified,
    single,
)
from dicomnode.dicomweb.dicom_json import BINARY_VRS
from dicomnode.dicomweb.media import OCTET_STREAM
from dicomnode.dicomweb.negotiation import AS_STORED, Wanted, in_order, media_type_of, wanted_frames
from dicomnode.dicomweb.paths import above
from dicomnode.dicomweb.wado import LEVELS, Instances, Locate
from dicomnode.errors import BadRequest, NotAcceptable, NotFound, Refused
from dicomnode.imaging.frames import FrameFile
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.imaging.transcoding import encoded_frame

_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_PLAIN = "1.2.840.10008.1.2.1"
_SWAPPED_TYPES = {"OD": "u8", "OF": "u4", "OL": "u4", "OV": "u8", "OW": "u2"}


def routes(instances: Instances, locate: Locate) -> list[BaseRoute]:
    """Frames of an instance by their numbers, and the values that its metadata has only URIs of."""

    def frames(request: Request) -> Response:
        wanted = wanted_frames(request)
        numbers = frame_numbers(request.path_params["frames"])
        (instance,) = instances(above(request))[:1]
        etag = etag_of(instance.sha256, *numbers, *wanted)
        unchanged = not_modified(request, etag)
        if unchanged is not None:
            return unchanged
        file = open_frames(locate(instance.sha256), numbers)
        first, form = _best(file, numbers[0], wanted)
        if form.alone and len(numbers) == 1:
            return single(request, first.media_type, first.content, etag)
        if form.alone:
            raise NotAcceptable((f'multipart/related; type="{OCTET_STREAM}"',))
        others = (_frame(file, number, form) for number in numbers[1:])
        return multipart(form.media_type, after(first, others), None, etag)

    def bulk_data(request: Request) -> Response:
        form = next((each for each in wanted_frames(request) if each.media_type == OCTET_STREAM), None)
        if form is None:
            raise NotAcceptable((OCTET_STREAM,))
        (instance,) = instances(above(request))[:1]
        way = request.path_params["way"]
        etag = etag_of(instance.sha256, way)
        unchanged = not_modified(request, etag)
        if unchanged is not None:
            return unchanged
        content = _bulk(locate(instance.sha256), way)
        if form.alone or request.headers.get("accept", "*/*").strip() == "*/*":
            return single(request, OCTET_STREAM, content, etag)
        return multipart(OCTET_STREAM, [Part(OCTET_STREAM, content)], None, etag)

    return [
        Route(f"{LEVELS[-1]}/frames/{{frames}}", frames, methods=["GET"]),
        Route(f"{LEVELS[-1]}/bulkdata/{{way:path}}", bulk_data, methods=["GET"]),
    ]


def frame_numbers(text: str) -> list[int]:
    """A list of frame numbers, counted from 1 (PS3.18 10.4.1.1.6). Raises BadRequest."""
    if not re.fullmatch(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*", text):
        raise BadRequest("frames are numbers from 1 on, with commas between")
    return [int(part) for part in text.split(",")]


def open_frames(path: Path, numbers: list[int]) -> FrameFile:
    """The file for these frames of it. Raises NotFound where it has no pixels, or not so many frames."""
    try:
        file = FrameFile(path)
    except (Refused, *UNREADABLE):
        raise NotFound("pixel data in this instance", "") from None
    for number in numbers:
        if number > file.count:
            raise NotFound("frame", number)
    return file


def _best(file: FrameFile, number: int, wanted: list[Wanted]) -> tuple[Part, Wanted]:
    for form in in_order(wanted, file.syntax):
        try:
            return _frame(file, number, form), form
        except UNREADABLE:
            continue
    raise NotAcceptable((f"{media_type_of(file.syntax)}; transfer-syntax={file.syntax}", OCTET_STREAM))


def _frame(file: FrameFile, number: int, form: Wanted) -> Part:
    """One frame in that form; raises `headers.UNREADABLE` where it cannot be had so."""
    plain = form.media_type == OCTET_STREAM and form.syntax in ("", _PLAIN)
    if plain or (form.syntax == AS_STORED and not file.syntax.is_encapsulated):
        return Part(f"{OCTET_STREAM}; transfer-syntax={_PLAIN}", file.plain(number))
    if form.syntax in (AS_STORED, file.syntax) and _suits(form.media_type, file.syntax):
        return Part(f"{form.media_type}; transfer-syntax={file.syntax}", file.stored(number))
    if not _suits(form.media_type, form.syntax):
        raise ValueError("the media type does not go with the transfer syntax")
    content = encoded_frame(file.array(number), form.syntax)
    return Part(f"{form.media_type}; transfer-syntax={form.syntax}", content)


def _suits(media_type: str, syntax: str) -> bool:
    return media_type in (OCTET_STREAM, media_type_of(syntax))


def _bulk(path: Path, way: str) -> Content:
    """The value at the end of the way, in little endian; raises NotFound."""
    if way.upper() in {f"{tag:08X}" for tag in _PIXELS}:
        return _pixels(path)
    parts = way.split("/")
    try:
        numbers = [int(part, 10 if place % 2 else 16) for place, part in enumerate(parts)]
        ds = dcmread(path)
        for tag, item in zip(numbers[:-1:2], numbers[1::2], strict=True):
            ds = ds[tag].value[item]
        return _value(ds[numbers[-1]], little=bool(ds.is_little_endian is not False))
    except UNREADABLE:
        raise NotFound("bulk data", "here") from None


def _pixels(path: Path) -> Content:
    try:
        file = FrameFile(path)
        if file.extent is not None:
            return FileSlice(path, *file.extent)
        return b"".join(file.plain(number) for number in range(1, file.count + 1))
    except (Refused, *UNREADABLE):
        raise NotFound("pixel data in this instance", "") from None


def _value(element: DataElement, *, little: bool) -> bytes:
    """The bytes of a value as Explicit VR Little Endian has them."""
    if element.VR[:2] not in BINARY_VRS or not isinstance(element.value, bytes):
        raise ValueError("no bulk data")
    swapped = None if little else _SWAPPED_TYPES.get(element.VR[:2])
    value: bytes = element.value
    return value if swapped is None else np.frombuffer(value, swapped).byteswap().tobytes()
