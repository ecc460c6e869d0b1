"""Event reports to subscribers, each over a WebSocket of its own (PS3.18 8.10, 11.13; RFC 6455)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.status import WS_1008_POLICY_VIOLATION, WS_1013_TRY_AGAIN_LATER
from starlette.websockets import WebSocket, WebSocketDisconnect

from dicomnode.dicomweb.dicom_json import attribute
from dicomnode.dicomweb.ups import is_ae_title
from dicomnode.errors import StoreError
from dicomnode.model.workitem import Attributes

log = structlog.get_logger()

PAUSE_S = 0.25
"""How often it is looked whether there are new reports: once for all connections of this process."""
LOOK_S = 5.0
"""How often a connection looks all the same: another process may have taken its subscriber."""
BATCH = 100
WS_4000_REPLACED = 4000
"""The close code for a connection whose place another one of the same subscriber took."""


class Reports(Protocol):
    """The reports that wait, in the database."""

    def connect(self, ae_title: str) -> str:
        """A new connection of this subscriber, which takes the place of an earlier one; its name."""

    def pending(self, ae_title: str, connection: str, limit: int) -> list[tuple[int, Attributes]] | None:
        """The oldest reports; None where another connection took its place."""

    def sent(self, notification_ids: Sequence[int]) -> None:
        """These went out."""

    def latest(self) -> int:
        """Another number whenever there is another report."""


def routes(reports: Reports) -> list[BaseRoute]:
    """Open Notification Connection."""
    bell = _Bell(reports.latest)

    async def connect(socket: WebSocket) -> None:
        ae_title = socket.path_params["ae"].strip(" ")
        if not is_ae_title(ae_title):
            await socket.close(WS_1008_POLICY_VIOLATION)
            return
        await socket.accept()
        log.info("subscriber.connected")
        tasks = [
            asyncio.create_task(_send(socket, reports, bell, ae_title)),
            asyncio.create_task(_wait_for_end(socket)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        log.info("subscriber.disconnected")
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect):
                raise error

    return [WebSocketRoute("/subscribers/{ae}", connect)]


class _Bell:
    """Rings in all connections when there is something new: one of them looks, the others wait for it."""

    def __init__(self, latest: Callable[[], int]) -> None:
        self._latest, self._seen = latest, 0
        self._turn = asyncio.Lock()

    async def ring(self, heard: int) -> int:
        """Return when there is something else than what was `heard`, or after some time; what there is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                while self._seen == heard:
                    async with self._turn:
                        if self._seen == heard:
                            await asyncio.sleep(PAUSE_S)
                            self._seen = await asyncio.to_thread(self._latest)
        return self._seen


async def _send(socket: WebSocket, reports: Reports, bell: _Bell, ae_title: str) -> None:
    """In their order, each once it is there; what was handed to the connection is told no more."""
    heard = 0
    try:
        connection = await asyncio.to_thread(reports.connect, ae_title)
        while (found := await asyncio.to_thread(reports.pending, ae_title, connection, BATCH)) is not None:
            for number, report in found:
                await socket.send_text(_written(number, report))
            if found:
                told = asyncio.to_thread(reports.sent, [number for number, _ in found])
                await asyncio.shield(told)  # also where the subscriber has gone meanwhile
            else:
                heard = await bell.ring(heard)
        await socket.close(WS_4000_REPLACED)
    except StoreError as error:
        await socket.close(WS_1013_TRY_AGAIN_LATER)
        raise error from None


def _written(number: int, report: Attributes) -> str:
    model = {**report, **attribute(0x00000110, "US", [number & 0xFFFF])}
    return json.dumps(dict(sorted(model.items())), ensure_ascii=False, separators=(",", ":"))


async def _wait_for_end(socket: WebSocket) -> None:
    """Subscribers have nothing to say; what they say all the same is not looked at."""
    with contextlib.suppress(WebSocketDisconnect):
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass
