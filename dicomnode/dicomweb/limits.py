"""What a request's body may cost: how long it is, how slowly it comes, and in which encoding."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomnode.errors import BadRequest, RequestTooLarge, RequestTooSlow, UnsupportedMediaType

SLOWEST = 1000.0
"""Bytes a second that a body must bring on average, once the first silence limit is over."""


class LimitedRequests:
    """Gives each request a `receive` that raises RequestTooLarge and RequestTooSlow.

    A response that goes out before its request's body was read to the end closes the connection.
    """

    def __init__(self, app: ASGIApp, maximum: int, silence_limit_s: float) -> None:
        self._app, self._maximum, self._silence_limit_s = app, maximum, silence_limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(Headers(scope=scope), receive, self._maximum, self._silence_limit_s)

        async def close_if_unread(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.complete:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, body.receive, close_if_unread)


class _Body:
    def __init__(self, headers: Headers, receive: Receive, maximum: int, silence_limit_s: float) -> None:
        self._headers, self._receive = headers, receive
        self._maximum, self._silence_limit_s = maximum, silence_limit_s
        self._received, self._waited_s = 0, 0.0
        self.complete = "content-length" not in headers and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        if self.complete:
            return await self._receive()
        if self._received == 0:
            self._check_headers()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._silence_limit_s):
                message = await self._receive()
        except TimeoutError:
            raise RequestTooSlow(self._silence_limit_s) from None
        self._waited_s += time.monotonic() - began
        self._received += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        self._check_progress()
        return message

    def _check_headers(self) -> None:
        if self._headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMediaType("a body with a Content-Encoding")
        announced = self._headers.get("content-length", "0")
        if not announced.isdecimal():
            raise BadRequest("the Content-Length is no number")
        if int(announced) > self._maximum:
            raise RequestTooLarge(self._maximum)

    def _check_progress(self) -> None:
        if self._received > self._maximum:
            raise RequestTooLarge(self._maximum)
        if not self.complete and self._waited_s > self._silence_limit_s + self._received / SLOWEST:
            raise RequestTooSlow(self._silence_limit_s)
