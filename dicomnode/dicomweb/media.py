"""Media types as HTTP headers write them, and what a client accepts (PS3.18 8.7; RFC 9110 8.3, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dicomnode.errors import BadRequest, NotAcceptable

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
OCTET_STREAM = "application/octet-stream"

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"\s*({_WORD})/({_WORD})")
# Clients write type=application/dicom without quotes, though a token has no slash.
_PARAMETER = re.compile(rf'\s*;\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))|\s*;\s*(?=;|,|$)')


@dataclass(frozen=True, slots=True)
class MediaType:
    """`essence` is type/subtype in lower case; parameter names are in lower case, values as they came."""

    essence: str
    parameters: Mapping[str, str]

    @property
    def quality(self) -> float:
        """How much a client wants it, from 0 to 1."""
        try:
            return min(1.0, max(0.0, float(self.parameters.get("q", "1"))))
        except ValueError:
            return 0.0

    def covers(self, essence: str) -> bool:
        """True where this range of an Accept header takes in the media type."""
        kind = self.essence.partition("/")[0]
        return self.essence in ("*/*", essence) or (
            self.essence.endswith("/*") and essence.startswith(f"{kind}/")
        )


def parse_media_type(text: str) -> MediaType:
    """One media type with its parameters, quoted or not. Raises BadRequest."""
    found, end = _one(text, 0)
    if text[end:].strip():
        raise BadRequest("a media type cannot be read")
    return found


def parse_accept(text: str) -> list[MediaType]:
    """The ranges of an Accept header, the most wanted first. Raises BadRequest."""
    ranges, at = [], 0
    while text[at:].strip(" \t,"):
        found, at = _one(text, at + len(text[at:]) - len(text[at:].lstrip(" \t,")))
        ranges.append(found)
        if text[at:].strip() and not text[at:].lstrip().startswith(","):
            raise BadRequest("the Accept header cannot be read")
    return sorted(ranges, key=lambda each: -each.quality)


def choose(accept: str | None, offers: Sequence[str]) -> str:
    """Which of `offers` (the first is the default) suits an Accept header. Raises NotAcceptable."""
    ranges = parse_accept(accept or "*/*")
    for wanted in ranges:
        for offer in offers:
            if wanted.quality > 0 and wanted.covers(offer) and not is_refused(ranges, offer):
                return offer
    raise NotAcceptable(offers)


def is_refused(ranges: Sequence[MediaType], essence: str) -> bool:
    """True for what a client names with the weight 0: a range that takes it in does not bring it back."""
    return any(each.essence == essence and each.quality == 0 for each in ranges)


def _one(text: str, at: int) -> tuple[MediaType, int]:
    named = _TYPE.match(text, at)
    if named is None:
        raise BadRequest("a media type cannot be read")
    at = named.end()
    parameters: dict[str, str] = {}
    while (given := _PARAMETER.match(text, at)) is not None:
        at = given.end()
        if given[1]:
            quoted = re.sub(r"\\(.)", r"\1", given[2]) if given[2] is not None else given[3]
            parameters.setdefault(given[1].lower(), quoted)
    return MediaType(f"{named[1]}/{named[2]}".lower(), parameters), at
