"""What the path of a DICOMweb resource names (PS3.18 10.1)."""

from __future__ import annotations

from starlette.requests import Request

from dicomnode.errors import BadRequest
from dicomnode.model.uid import is_valid_uid

_KEYWORDS = {
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "instance": "SOPInstanceUID",
}


def above(request: Request) -> dict[str, str]:
    """The UIDs in the path by keyword. Raises BadRequest where one is none."""
    named = {_KEYWORDS[part]: uid for part, uid in request.path_params.items() if part in _KEYWORDS}
    for keyword, uid in named.items():
        if not is_valid_uid(uid):
            raise BadRequest(f"{keyword} in the path is no UID")
    return named


def base_url(request: Request) -> str:
    """The URL under which clients reach the services: the one of the settings, or as this client wrote it.

    Some clients leave the port out of their Host header: it is put in where they name this very address.
    """
    public: str = request.scope.get("state", {}).get("public_url", "")
    if public:
        return public
    place, server = request.url.netloc, request.scope.get("server")
    if server is not None and place == server[0]:
        place = f"{place}:{server[1]}"
    return f"{request.url.scheme}://{place}{request.scope.get('root_path', '')}"


def way_in_url(way: tuple[int, ...]) -> str:
    """The way to an element: tags in eight digits, the numbers of items as they are; they alternate."""
    return "/".join(str(part) if place % 2 else f"{part:08X}" for place, part in enumerate(way))
