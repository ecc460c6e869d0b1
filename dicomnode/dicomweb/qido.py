"""QIDO-RS: studies, series and instances are searched for (PS3.18 10.6)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dicomnode.dicomweb.dicom_json import JSONDataset, attribute, to_json
from dicomnode.dicomweb.model_answer import NO_CACHE, models_answer
from dicomnode.dicomweb.negotiation import choose_model
from dicomnode.dicomweb.paths import above, base_url
from dicomnode.dicomweb.search_query import REQUEST_KEYS, Search, parse_search
from dicomnode.model.query import UNIQUE_KEYS, Level, Query

MAXIMUM_MATCHES = 5000
"""The most entities of one answer; more are had by `offset`."""
_LEVELS = (Level.STUDY, Level.SERIES, Level.IMAGE)
_FOLDERS = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
_PATHS = {
    "/studies": Level.STUDY,
    "/series": Level.SERIES,
    "/instances": Level.IMAGE,
    "/studies/{study}/series": Level.SERIES,
    "/studies/{study}/instances": Level.IMAGE,
    "/studies/{study}/series/{series}/instances": Level.IMAGE,
}


@dataclass(frozen=True, slots=True)
class Found:
    """Entities as keyword → value, and whether more of them match than the query let through."""

    rows: Sequence[Mapping[str, Any]]
    more: bool


def routes(
    search: Callable[[Query], Found],
    header: Callable[[Mapping[str, Any], Sequence[str]], Dataset],
    held: Callable[[Level], frozenset[str]],
) -> list[BaseRoute]:
    """The search transactions.

    `search` answers a query; `header` reads attributes that the catalog does not hold from an instance of an
    entity; `held` names those that it does.
    """

    def endpoint(level: Level) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            parameters = request.query_params.multi_items()
            asked = parse_search(level, above(request), parameters, held(level), MAXIMUM_MATCHES)
            found = search(asked.query)
            models = [_model(level, row, asked, header, base_url(request)) for row in found.rows]
            return _response(request, models, _warnings(asked, found))

        return answer

    return [Route(path, endpoint(level), methods=["GET"]) for path, level in _PATHS.items()]


def _warnings(asked: Search, found: Found) -> list[str]:
    more = ["there are additional results that can be requested"] if found.more else []
    return [*asked.warnings, *more]


def _response(request: Request, models: Sequence[JSONDataset], warnings: Sequence[str]) -> Response:
    # Also where nothing was found: what a client cannot read is refused (406) before that is said.
    choose_model(request)
    response = models_answer(request, models) if models else Response(status_code=204, headers=NO_CACHE)
    for warning in warnings:
        response.headers.append("Warning", f'299 dicomnode "{warning}"')
    return response


def _model(
    level: Level,
    row: Mapping[str, Any],
    asked: Search,
    header: Callable[[Mapping[str, Any], Sequence[str]], Dataset],
    base: str,
) -> JSONDataset:
    """One entity in the JSON model; every attribute that was asked for is there, if without a value."""
    model: JSONDataset = {}
    for keyword in asked.query.return_keys:
        if keyword not in REQUEST_KEYS:
            tag, vr = _known(keyword)
            model |= attribute(tag, vr, _values(vr, row.get(keyword)))
    if REQUEST_KEYS[0] in asked.query.return_keys:
        model["00400275"] = _request(row)
    if asked.more_keys:
        model = {**to_json(header(row, asked.more_keys)), **model}
    model["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    model["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    model["00081190"] = {"vr": "UR", "Value": [_url(level, row, base)]}
    return dict(sorted(model.items()))


def _request(row: Mapping[str, Any]) -> dict[str, Any]:
    item: JSONDataset = {}
    for keyword in REQUEST_KEYS:
        if row.get(keyword):
            item |= attribute(*_known(keyword), [row[keyword]])
    return {"vr": "SQ", "Value": [item]} if item else {"vr": "SQ"}


@functools.cache
def _known(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag, dictionary_VR(keyword)


def _values(vr: str, value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    if isinstance(value, str) and vr not in ("LT", "ST", "UT"):
        return value.split("\\")
    return [value]


def _url(level: Level, row: Mapping[str, Any], base: str) -> str:
    levels = _LEVELS[: _LEVELS.index(level) + 1]
    return base + "".join(f"/{_FOLDERS[each]}/{row[UNIQUE_KEYS[each]]}" for each in levels)
