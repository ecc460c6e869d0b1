"""Which of the forms that a client accepts is given: media type and transfer syntax (PS3.18 8.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from starlette.requests import Request

from dicomnode.dicomweb.media import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    OCTET_STREAM,
    MediaType,
    is_refused,
    parse_accept,
)
from dicomnode.errors import NotAcceptable

MULTIPART = "multipart/related"
AS_STORED = "*"
_JSON = "application/json"
_OF_MEDIA = {
    "image/jpeg": JPEGLosslessSV1,
    "image/jls": JPEGLSLossless,
    "image/jp2": JPEG2000Lossless,
    "image/jphc": HTJ2KLossless,
    "image/dicom-rle": RLELossless,
}
"""The transfer syntax of a compressed frame's media type where none is asked for (PS3.18 table 8.7.3-5)."""
_MEDIA_BY_PREFIX = {
    "1.2.840.10008.1.2.4.10": "video/mp4",
    "1.2.840.10008.1.2.4.20": "image/jphc",
    "1.2.840.10008.1.2.4.8": "image/jls",
    "1.2.840.10008.1.2.4.9": "image/jp2",
    "1.2.840.10008.1.2.4.5": "image/jpeg",
    "1.2.840.10008.1.2.4.7": "image/jpeg",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
_FRAME_MEDIA = frozenset([OCTET_STREAM, *_OF_MEDIA, *_MEDIA_BY_PREFIX.values()])


@dataclass(frozen=True, slots=True)
class Wanted:
    """One form that a client takes, in parts or `alone`; `syntax`: a UID, AS_STORED, "" for a plain one."""

    alone: bool
    media_type: str
    syntax: str
    quality: float


def accepted(request: Request) -> list[MediaType]:
    """The ranges of the Accept header, the most wanted first; a query parameter goes before it (8.3.3.1)."""
    by_query = request.query_params.get("accept")
    return parse_accept(by_query or request.headers.get("accept") or "*/*")


def choose_model(request: Request) -> str:
    """DICOM JSON (also under the name of plain JSON), or DICOM XML, which comes in parts."""
    ranges = accepted(request)
    for each in ranges:
        if each.quality <= 0:
            continue
        if each.covers(DICOM_JSON) and not is_refused(ranges, DICOM_JSON):
            return DICOM_JSON
        if each.covers(_JSON) and not is_refused(ranges, _JSON):
            return _JSON
        if each.essence == DICOM_XML or (each.essence == MULTIPART and _part_type(each) in (DICOM_XML, "")):
            return DICOM_XML
    raise NotAcceptable((DICOM_JSON, f'{MULTIPART}; type="{DICOM_XML}"'))


def wanted_instances(request: Request) -> list[Wanted]:
    """The forms of application/dicom that are accepted, the most wanted first. Raises NotAcceptable."""
    return _wanted(request, frozenset({DICOM}), DICOM)


def wanted_frames(request: Request) -> list[Wanted]:
    """The forms of frames that are accepted: plain or compressed. Raises NotAcceptable."""
    return _wanted(request, _FRAME_MEDIA, OCTET_STREAM)


def is_plain(form: Wanted, stored: UID) -> bool:
    """True where pixels are wanted without any encoding; as they are stored, too, where they have none."""
    if form.syntax == AS_STORED:
        return not stored.is_encapsulated
    return form.media_type == OCTET_STREAM and form.syntax in ("", ExplicitVRLittleEndian)


def media_type_of(syntax: str) -> str:
    """What a frame of a compressed transfer syntax is, by itself."""
    found = (media for prefix, media in _MEDIA_BY_PREFIX.items() if syntax.startswith(prefix))
    return next(found, OCTET_STREAM)


def _wanted(request: Request, offered: frozenset[str], default: str) -> list[Wanted]:
    found = []
    for each in accepted(request):
        alone = each.essence not in (MULTIPART, "*/*", "multipart/*")
        media_type = each.essence if alone else _part_type(each) or default
        if media_type in ("application/*", "*/*"):
            media_type = default
        if each.quality > 0 and media_type in offered:
            syntax = each.parameters.get("transfer-syntax", _OF_MEDIA.get(media_type, ""))
            found.append(Wanted(alone, media_type, syntax, each.quality))
    if not found:
        raise NotAcceptable((f'{MULTIPART}; type="{default}"', default))
    return found


def _part_type(each: MediaType) -> str:
    return each.parameters.get("type", "").strip().lower()


def in_order(wanted: Sequence[Wanted], stored: str) -> list[Wanted]:
    """Of forms that are wanted alike, first the one that the bytes have already."""
    return sorted(wanted, key=lambda each: (-each.quality, each.syntax not in (AS_STORED, stored)))
