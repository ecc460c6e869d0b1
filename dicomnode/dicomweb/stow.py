"""STOW-RS: instances come in over HTTP, and are answered when they are durable (PS3.18 10.5, I)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Generic
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dicomnode.dicomweb.app import client_address, client_ae_title
from dicomnode.dicomweb.dicom_xml import to_xml
from dicomnode.dicomweb.media import DICOM, DICOM_JSON, DICOM_XML, MediaType, choose, parse_media_type
from dicomnode.dicomweb.paths import base_url
from dicomnode.dicomweb.status import RETRY_AFTER_S
from dicomnode.dicomweb.stow_body import InstanceStore, Kept, StowBody
from dicomnode.dicomweb.stow_outcome import Outcome, stow_dataset, stow_status
from dicomnode.errors import BadRequest, UnsupportedMediaType
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.uid import is_valid_uid

BLOCK = 1_048_576
"""Bytes of a body that are handed on at a time; the next ones come in meanwhile."""


def routes(store: InstanceStore[Kept], called_ae: str) -> list[BaseRoute]:
    """The Store Transaction on studies and on one study; `called_ae` is what rules take the node for."""
    handler = _Handler(store, called_ae)
    return [
        Route("/studies", handler.answer, methods=["POST"]),
        Route("/studies/{study}", handler.answer, methods=["POST"]),
    ]


class _Handler(Generic[Kept]):
    def __init__(self, store: InstanceStore[Kept], called_ae: str) -> None:
        self._store, self._called_ae = store, called_ae

    async def answer(self, request: Request) -> Response:
        StudyInstanceUID = request.path_params.get("study")
        if StudyInstanceUID is not None and not is_valid_uid(StudyInstanceUID):
            raise BadRequest("the study in the URL is no UID")
        accepted = choose(request.headers.get("accept"), (DICOM_JSON, DICOM_XML))
        kind = _kind(request)
        body = StowBody(self._store, self._association(request), kind, StudyInstanceUID)
        try:
            rest = await _feed(request, body.feed)
            outcomes = await asyncio.to_thread(body.finish, rest)
        except BaseException:
            await asyncio.to_thread(body.abandon)
            raise
        return self._response(request, outcomes, accepted, StudyInstanceUID)

    def _association(self, request: Request) -> AssociationFacts:
        address = str(client_address(request))
        return AssociationFacts(uuid4().hex, client_ae_title(request), self._called_ae, address)

    def _response(
        self, request: Request, outcomes: list[Outcome], accepted: str, StudyInstanceUID: str | None
    ) -> Response:
        dataset = stow_dataset(outcomes, base_url(request), StudyInstanceUID)
        content = json.dumps(dataset).encode() if accepted == DICOM_JSON else to_xml(dataset)
        status = stow_status(outcomes)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        return Response(content, status, headers=headers, media_type=accepted)


def _kind(request: Request) -> MediaType:
    """What the body is: multipart/related with its parameters, or one instance."""
    kind = parse_media_type(request.headers.get("content-type", ""))
    if kind.essence == DICOM:
        return kind
    if kind.essence != "multipart/related":
        raise UnsupportedMediaType(f"a body of {kind.essence}")
    root = kind.parameters.get("type", DICOM).lower()
    if root not in (DICOM, DICOM_JSON, DICOM_XML):
        raise UnsupportedMediaType(f"multipart/related of {root}")
    return kind


async def _feed(request: Request, take: Callable[[bytes], None]) -> bytes:
    """Hand the body on to a thread, block after block, while the next one comes in; returns what is left."""
    gathered: list[bytes] = []
    size = 0
    taking: asyncio.Future[None] | None = None
    try:
        async for chunk in request.stream():
            gathered.append(chunk)
            size += len(chunk)
            if size >= BLOCK:
                if taking is not None:
                    await taking
                taking = asyncio.ensure_future(asyncio.to_thread(take, b"".join(gathered)))
                gathered, size = [], 0
    finally:
        # Also where the client is gone: nobody may clear away what is still being written.
        if taking is not None:
            await taking
    return b"".join(gathered)
