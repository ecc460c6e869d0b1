"""UPS-RS: work items are created, looked at, cancelled, and subscribed to (PS3.18 11)."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dicomnode.dicomweb.app import client_ae_title
from dicomnode.dicomweb.dicom_xml import to_xml
from dicomnode.dicomweb.media import DICOM_XML
from dicomnode.dicomweb.model_answer import NO_CACHE, models_answer
from dicomnode.dicomweb.negotiation import accepted, choose_model
from dicomnode.dicomweb.paths import base_url
from dicomnode.dicomweb.search_query import parse_search
from dicomnode.dicomweb.status import http_status
from dicomnode.dicomweb.ups_body import read_dataset
from dicomnode.errors import BadRequest, WorkItemError
from dicomnode.imaging.elements import text_of
from dicomnode.model.query import Level, Match, Query
from dicomnode.model.uid import is_valid_uid
from dicomnode.model.workitem import FILTERED_WORKLIST_UID, WORKLIST_UID, Attributes, StepState

MAXIMUM_MATCHES = 1000
"""The most work items of one answer; more are had by `offset`."""
ANSWERED = (
    *("00080005", "00080016", "00080018", "00080050", "00100010", "00100020", "00100030", "00100040"),
    *("0020000D", "00404005", "00404010", "00404018", "00404025", "00404041", "0040A370"),
    *("00741000", "00741002", "00741200", "00741202", "00741204"),
)
"""What a search answers unasked: the keys of PS3.4 table CC.2.5-3 that this node has values for."""
_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
_WORKLISTS = frozenset({WORKLIST_UID, FILTERED_WORKLIST_UID})
_NO_KEYS = frozenset({"accept", "charset", "deletionlock", "filter"})


class WorkItems(Protocol):
    """What answers; `held` are the keywords that can be searched for."""

    @property
    def held(self) -> frozenset[str]:
        """The keywords that can be searched for; an attribute in a sequence by its own."""

    def create(self, SOPInstanceUID: str | None, ds: Dataset) -> tuple[str, bool]:
        """The UID, and whether it is other than what was asked for."""

    def retrieve(self, SOPInstanceUID: str) -> Attributes:
        """One work item."""

    def search(self, query: Query, *, whole: bool) -> tuple[list[Attributes], bool]:
        """What matches, and whether there is more."""

    def update(self, SOPInstanceUID: str, TransactionUID: str | None, changes: Dataset) -> None:
        """Change attributes."""

    def change_state(self, SOPInstanceUID: str, state: StepState, TransactionUID: str | None) -> str | None:
        """A warning where it is in that state already."""

    def request_cancel(self, SOPInstanceUID: str, requester: str, request: Dataset) -> str | None:
        """A warning where it was cancelled before."""

    def subscribe(self, ae_title: str, SOPInstanceUID: str) -> None:
        """Tell an AE of a work item."""

    def subscribe_worklist(self, ae_title: str, matches: Mapping[str, Match] | None) -> None:
        """Tell an AE of all work items, or of those that match."""

    def unsubscribe(self, ae_title: str, SOPInstanceUID: str) -> None:
        """Tell an AE of a work item no more."""

    def unsubscribe_worklist(self, ae_title: str, *, filtered: bool) -> None:
        """Tell an AE of nothing more."""

    def suspend(self, ae_title: str, *, filtered: bool) -> None:
        """Tell an AE of no further work item."""


def routes(items: WorkItems) -> list[BaseRoute]:
    """The transactions of the Worklist Service but for its events."""
    handler = _Handler(items)
    one, subscriber = "/workitems/{workitem}", "/workitems/{workitem}/subscribers/{ae}"
    given: list[tuple[str, str, _Answer]] = [
        ("/workitems", "POST", handler.create),
        ("/workitems", "GET", handler.search),
        (one, "GET", handler.retrieve),
        (one, "POST", handler.update),
        (f"{one}/state", "PUT", handler.change_state),
        (f"{one}/cancelrequest", "POST", handler.request_cancel),
        (subscriber, "POST", handler.subscribe),
        (subscriber, "DELETE", handler.unsubscribe),
        (f"{subscriber}/suspend", "POST", handler.suspend),
    ]
    return [Route(path, _refusing(answer), methods=[method]) for path, method, answer in given]


_Answer = Callable[[Request], Awaitable[Response]]


def _refusing(answer: _Answer) -> _Answer:
    """What is refused is said in the Warning header, too (PS3.18 11.4.3.2 and others)."""

    @functools.wraps(answer)
    async def refusing(request: Request) -> Response:
        try:
            return await answer(request)
        except WorkItemError as error:
            return _warned(request, http_status(error), str(error))

    return refusing


class _Handler:
    def __init__(self, items: WorkItems) -> None:
        self._items = items

    async def create(self, request: Request) -> Response:
        ds = await read_dataset(request)
        named = {_query_uid(request, "workitem", "AffectedSOPInstanceUID"), text_of(ds, "SOPInstanceUID")}
        named -= {"", None}
        if len(named) > 1 or not all(is_valid_uid(uid) for uid in named if uid) or named & _WORKLISTS:
            raise BadRequest("the work item's UID is none, or two, or the worklist's")
        uid, modified = await asyncio.to_thread(self._items.create, next(iter(named), None), ds)
        url = f"{base_url(request)}/workitems/{uid}"
        headers = {"Location": url, "Content-Location": url}
        text = "The Workitem was created with modifications." if modified else None
        return _warned(request, 201, text, headers)

    async def retrieve(self, request: Request) -> Response:
        found = await asyncio.to_thread(self._items.retrieve, _uid(request))
        response = _represented(request, [found], single=True)
        response.headers["Content-Location"] = f"{base_url(request)}/workitems/{_uid(request)}"
        return response

    async def search(self, request: Request) -> Response:
        parameters = request.query_params.multi_items()
        asked = parse_search(Level.STUDY, {}, parameters, self._items.held, MAXIMUM_MATCHES)
        wanted = _wanted(parameters, asked.query.return_keys, asked.more_keys)
        whole = wanted is None or bool(wanted & {"00404021", "00741216"})
        found, more = await asyncio.to_thread(self._items.search, asked.query, whole=whole)
        models = [
            {tag: content for tag, content in each.items() if wanted is None or tag in wanted}
            for each in found
        ]
        response = _represented(request, models) if models else Response(status_code=204)
        for warning in [*asked.warnings, *(["There are more work items"] if more else [])]:
            response.headers.append("Warning", f"299 {base_url(request)}: {warning}.")
        return response

    async def update(self, request: Request) -> Response:
        ds = await read_dataset(request)
        uid = _query_uid(request, "transaction-uid", "transaction") or text_of(ds, "TransactionUID") or None
        await asyncio.to_thread(self._items.update, _uid(request), uid, ds)
        return Response(headers={"Content-Location": f"{base_url(request)}/workitems/{_uid(request)}"})

    async def change_state(self, request: Request) -> Response:
        ds = await read_dataset(request)
        try:
            state = StepState(text_of(ds, "ProcedureStepState"))
        except ValueError:
            raise BadRequest("ProcedureStepState is not IN PROGRESS, COMPLETED or CANCELED") from None
        if state is StepState.SCHEDULED:
            raise BadRequest("no work item becomes SCHEDULED")
        uid = text_of(ds, "TransactionUID") or None
        warning = await asyncio.to_thread(self._items.change_state, _uid(request), state, uid)
        return _warned(request, 200, warning)

    async def request_cancel(self, request: Request) -> Response:
        ds = await read_dataset(request)
        requester = client_ae_title(request) or "UNKNOWN"
        warning = await asyncio.to_thread(self._items.request_cancel, _uid(request), requester, ds)
        return _warned(request, 202, warning)

    async def subscribe(self, request: Request) -> Response:
        uid, ae_title = _uid(request), _ae_title(request)
        if uid in _WORKLISTS:
            matches = self._filter(request) if uid == FILTERED_WORKLIST_UID else None
            await asyncio.to_thread(self._items.subscribe_worklist, ae_title, matches)
        else:
            await asyncio.to_thread(self._items.subscribe, ae_title, uid)
        channel = re.sub("^http", "ws", base_url(request))
        return Response(
            status_code=201, headers={"Content-Location": f"{channel}/subscribers/{quote(ae_title)}"}
        )

    def _filter(self, request: Request) -> Mapping[str, Match]:
        """By `filter=key=value,…` or by the keys themselves (PS3.18 11.10.1.2)."""
        pairs = [pair for pair in request.query_params.multi_items() if pair[0].lower() not in _NO_KEYS]
        for text in request.query_params.getlist("filter"):
            pairs += [(key, value) for key, _, value in (part.partition("=") for part in text.split(","))]
        asked = parse_search(Level.STUDY, {}, pairs, self._items.held, MAXIMUM_MATCHES)
        if asked.warnings or not asked.query.matches:
            raise BadRequest("; ".join(asked.warnings) or "a filtered subscription needs a filter")
        return asked.query.matches

    async def unsubscribe(self, request: Request) -> Response:
        uid, ae_title = _uid(request), _ae_title(request)
        if uid in _WORKLISTS:
            filtered = uid == FILTERED_WORKLIST_UID
            await asyncio.to_thread(self._items.unsubscribe_worklist, ae_title, filtered=filtered)
        else:
            await asyncio.to_thread(self._items.unsubscribe, ae_title, uid)
        return Response()

    async def suspend(self, request: Request) -> Response:
        uid, ae_title = _uid(request), _ae_title(request)
        if uid not in _WORKLISTS:
            raise BadRequest("only a subscription to the worklist can be suspended")
        await asyncio.to_thread(self._items.suspend, ae_title, filtered=uid == FILTERED_WORKLIST_UID)
        return Response()


def is_ae_title(text: str) -> bool:
    """True for 1 to 16 characters that may stand in an AE title, without spaces around (PS3.5 6.2)."""
    return _AE_TITLE.fullmatch(text) is not None


def _uid(request: Request) -> str:
    uid: str = request.path_params["workitem"]
    if not is_valid_uid(uid):
        raise BadRequest("the work item in the path is no UID")
    return uid


def _ae_title(request: Request) -> str:
    ae_title = str(request.path_params["ae"]).strip(" ")
    if not is_ae_title(ae_title):
        raise BadRequest("the subscriber in the path is no AE title")
    return ae_title


def _query_uid(request: Request, *names: str) -> str | None:
    """A UID in the query part, with one of these names or, as the standard writes it, with none."""
    for name, text in request.query_params.multi_items():
        if name in names:
            return text
        if not text and is_valid_uid(name):
            return name
    return None


def _wanted(
    parameters: Sequence[tuple[str, str]], keys: Sequence[str], more: Sequence[str]
) -> set[str] | None:
    """Which attributes are answered, by tag; None for all."""
    fields = [text.strip() for name, text in parameters if name.lower() == "includefield"]
    if any(text.lower() == "all" for field in fields for text in field.split(",")):
        return None
    tags = (tag_for_keyword(keyword) for keyword in (*keys, *more))
    return {*ANSWERED, *(f"{tag:08X}" for tag in tags if tag is not None)}


def _warned(
    request: Request, status: int, warning: str | None, headers: Mapping[str, str] | None = None
) -> Response:
    text = f"{warning}\n" if warning and status >= 400 else None
    response = Response(text, status, headers, "text/plain" if text else None)
    if warning:
        response.headers["Warning"] = f"299 {base_url(request)}: {warning}"
    return response


def _represented(request: Request, models: Sequence[Attributes], *, single: bool = False) -> Response:
    wants_xml = choose_model(request) == DICOM_XML
    if single and wants_xml and any(each.essence == DICOM_XML for each in accepted(request)):
        return Response(to_xml(models[0]), headers=NO_CACHE, media_type=DICOM_XML)
    return models_answer(request, models)
