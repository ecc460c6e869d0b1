"""WADO-RS: frames are retrieved (PS3.18 10.4.1.1.6)."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dicomnode.dicomweb.answers import Part, after, etag_of, multipart, single, unmet_condition
from dicomnode.dicomweb.media import OCTET_STREAM
from dicomnode.dicomweb.negotiation import (
    AS_STORED,
    Wanted,
    in_order,
    is_plain,
    media_type_of,
    wanted_frames,
)
from dicomnode.dicomweb.paths import above
from dicomnode.dicomweb.wado import LEVELS, Instances, Locate
from dicomnode.errors import BadRequest, NotAcceptable, NotFound, Refused
from dicomnode.imaging.frames import FrameFile
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.imaging.transcoding import encoded_frame


def routes(instances: Instances, locate: Locate) -> list[BaseRoute]:
    """Frames of an instance by their numbers."""

    def frames(request: Request) -> Response:
        wanted = wanted_frames(request)
        numbers = frame_numbers(request.path_params["frames"])
        (instance,) = instances(above(request))[:1]
        etag = etag_of(instance.sha256, *numbers, *wanted)
        unmet = unmet_condition(request, etag)
        if unmet is not None:
            return unmet
        file = open_frames(locate(instance.sha256), numbers)
        first, form = _best(file, numbers[0], wanted)
        if form.alone and len(numbers) == 1:
            return single(request, first.media_type, first.content, etag)
        if form.alone:
            raise NotAcceptable((f'multipart/related; type="{OCTET_STREAM}"',))
        others = (frame_part(file, number, form) for number in numbers[1:])
        return multipart(form.media_type, after(first, others), None, etag)

    return [Route(f"{LEVELS[-1]}/frames/{{frames}}", frames, methods=["GET"])]


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
            return frame_part(file, number, form), form
        except UNREADABLE:
            continue
    raise NotAcceptable((f"{media_type_of(file.syntax)}; transfer-syntax={file.syntax}", OCTET_STREAM))


def frame_part(file: FrameFile, number: int, form: Wanted) -> Part:
    """One frame in that form; raises `headers.UNREADABLE` where it cannot be had so."""
    if is_plain(form, file.syntax):
        return Part(f"{OCTET_STREAM}; transfer-syntax={ExplicitVRLittleEndian}", file.plain(number))
    if form.syntax in (AS_STORED, file.syntax) and _suits(form.media_type, file.syntax):
        return Part(f"{form.media_type}; transfer-syntax={file.syntax}", file.stored(number))
    if not _suits(form.media_type, form.syntax):
        raise ValueError("the media type does not go with the transfer syntax")
    content = encoded_frame(file.array(number), form.syntax)
    return Part(f"{form.media_type}; transfer-syntax={form.syntax}", content)


def _suits(media_type: str, syntax: str) -> bool:
    return media_type in (OCTET_STREAM, media_type_of(syntax))
