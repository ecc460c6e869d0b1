"""WADO-URI: one instance by a query, for older viewers (PS3.18 9)."""

from __future__ import annotations

from collections.abc import Mapping, Set

from pydicom.uid import UID
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dicomnode.dicomweb.answers import etag_of, single, unmet_condition
from dicomnode.dicomweb.media import DICOM, parse_accept
from dicomnode.dicomweb.negotiation import AS_STORED, Wanted
from dicomnode.dicomweb.pictures import (
    GIF,
    JPEG,
    PNG,
    Rendering,
    Viewport,
    encode,
    parse_quality,
    region_of,
    size_of,
    window_of,
)
from dicomnode.dicomweb.pixels import frame_numbers, open_frames
from dicomnode.dicomweb.wado import Instances, Locate, content_of
from dicomnode.errors import BadRequest, NotAcceptable
from dicomnode.imaging.transcoding import TARGETS
from dicomnode.model.instance import StoredInstance
from dicomnode.model.uid import is_valid_uid

_NAMES = {
    "studyUID": "StudyInstanceUID",
    "seriesUID": "SeriesInstanceUID",
    "objectUID": "SOPInstanceUID",
}
_OF_ALL = frozenset({"requestType", *_NAMES, "contentType", "charset"})
_OF_DICOM = _OF_ALL | {"transferSyntax"}
_OF_PICTURES = _OF_ALL | {
    *("frameNumber", "imageQuality", "region", "rows", "columns", "windowCenter", "windowWidth")
}
_LARGEST = "8192"


def routes(instances: Instances, locate: Locate) -> list[BaseRoute]:
    """The one resource, `/wado`."""

    def answer(request: Request) -> Response:
        parameters = request.query_params
        (instance,) = instances(_names(parameters))[:1]
        etag = etag_of(instance.sha256, parameters, request.headers.get("accept", ""))
        unmet = unmet_condition(request, etag)
        if unmet is not None:
            return unmet
        path = locate(instance.sha256)
        media_type = _media_type(request, instance)
        _require_known(parameters, _OF_DICOM if media_type == DICOM else _OF_PICTURES)
        if media_type == DICOM:
            content, syntax = content_of(instance, path, [_wanted(parameters)])
            return single(request, f"{DICOM}; transfer-syntax={syntax}", content, etag)
        numbers = frame_numbers(parameters.get("frameNumber", "1"))
        picture = encode(open_frames(path, numbers), numbers[0], _rendering(parameters, media_type))
        return Response(picture, media_type=media_type, headers={"ETag": etag, "Vary": "Accept"})

    return [Route("/wado", answer, methods=["GET"])]


def _names(parameters: Mapping[str, str]) -> dict[str, str]:
    """The UIDs, all three of them (PS3.18 9.1.2.1). Raises BadRequest."""
    if parameters.get("requestType") != "WADO":
        raise BadRequest("requestType is WADO")
    named = {keyword: parameters.get(name, "") for name, keyword in _NAMES.items()}
    if not all(map(is_valid_uid, named.values())):
        raise BadRequest("studyUID, seriesUID and objectUID are UIDs")
    return named


def _require_known(parameters: Mapping[str, str], known: Set[str]) -> None:
    """Who asked for something must not get something else: no name where none was to be seen, no picture
    without its annotations or its presentation state (PS3.18 9.4.1, 9.5.1). Raises BadRequest."""
    if not known >= set(parameters):
        raise BadRequest(f"for this media type there are {', '.join(sorted(known))}")


def _media_type(request: Request, instance: StoredInstance) -> str:
    """A picture where nothing is said and there is one, else the instance (PS3.18 9.1.2.2.1)."""
    said = request.query_params.get("contentType")
    offers = (JPEG, PNG, GIF, DICOM) if said is None and _is_picture(instance) else (DICOM, JPEG, PNG, GIF)
    for each in parse_accept(said or request.headers.get("accept") or "*/*"):
        for offer in offers:
            if each.quality > 0 and each.covers(offer):
                return offer
    raise NotAcceptable((DICOM, JPEG, PNG, GIF))


def _is_picture(instance: StoredInstance) -> bool:
    """By its class: reports, presentation states, plans and structure sets have no pixels."""
    name = UID(instance.SOPClassUID).keyword
    return "Image" in name or "Segmentation" in name


def _wanted(parameters: Mapping[str, str]) -> Wanted:
    syntax = parameters.get("transferSyntax", "")
    if syntax not in ("", AS_STORED) and not is_valid_uid(syntax):
        raise BadRequest("transferSyntax is a UID")
    # One that cannot be given is not asked for: the answer says which it is (PS3.18 9.1.2.2.2.3).
    return Wanted(True, DICOM, syntax if syntax in (AS_STORED, *TARGETS) else "", 1.0)


def _rendering(parameters: Mapping[str, str], media_type: str) -> Rendering:
    center, width = parameters.get("windowCenter"), parameters.get("windowWidth")
    if (center is None) != (width is None):
        raise BadRequest("windowCenter and windowWidth go together")
    rows, columns = parameters.get("rows"), parameters.get("columns")
    size = size_of(columns or _LARGEST, rows or _LARGEST) if rows or columns else None
    region = parameters.get("region")
    viewport = Viewport(size) if region is None else Viewport(size, region_of(region), in_shares=True)
    return Rendering(
        media_type,
        window_of(center, width) if center is not None and width is not None else None,
        viewport,
        parse_quality(parameters.get("imageQuality")),
    )
