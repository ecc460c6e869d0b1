"""The web application: routes that modules give, behind one edge where errors, limits and admission are.

A module gives its routes as a list: ``stow.routes(…)``, ``qido.routes(…)``. Their paths are relative to the
base path ("/studies"), and what they need comes in as narrow callables. A handler that waits for the disk or
the database is a plain ``def``: it runs in a thread. It raises DicomnodeError, which the edge answers with
the status of `dicomweb/status.py`, or returns a Starlette response; JSON and XML are compressed on their way.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomnode.dicomweb.compression import Compression
from dicomnode.dicomweb.hosts import is_own_host, is_own_page
from dicomnode.dicomweb.limits import LimitedRequests
from dicomnode.dicomweb.rate import Address, Rate
from dicomnode.dicomweb.status import RETRY_AFTER_S, RETRY_RATE_S, http_status
from dicomnode.errors import (
    DicomnodeError,
    DiskFailed,
    Forbidden,
    ForeignPage,
    Misdirected,
    TooManyRequests,
    Unauthorized,
)

log = structlog.get_logger()

_COMPRESSED_ALREADY = (
    "application/dicom",
    "application/octet-stream",
    "application/pdf",
    "image/*",
    "multipart/*",
    "text/event-stream",
    "video/*",
)
_READS = frozenset(("GET", "HEAD", "OPTIONS"))
_EXPOSED = (
    *("Accept-Ranges", "Content-Encoding", "Content-Location", "Content-Range", "ETag", "Link", "Location"),
    *("Retry-After", "Warning"),
)


@dataclass(frozen=True, slots=True)
class Admission:
    """Clients at these addresses are let in; `ae_title` is what rules take them for, "*" is no name."""

    ae_title: str
    network: IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class WebSettings:
    """`host_names`: by which names the node may be called, in lower case, beside addresses and localhost.
    `public_url`: how links in answers begin; where it is empty, as the client called the node.

    `maximum_request`: bytes of a body. `body_timeout_s`: how long a client may be silent in one.
    `requests_per_second`: of one address. `guard` raises where an Authorization header, from that address,
    is not good enough; it may take its time. Without one, nobody is asked.
    """

    path: str
    accept: tuple[Admission, ...]
    cors_origins: tuple[str, ...] = ()
    host_names: frozenset[str] = frozenset()
    public_url: str = ""
    maximum_request: int = 4_000_000_000
    body_timeout_s: float = 60.0
    requests_per_second: int = 1000
    guard: Callable[[str, Address], None] | None = None


def create_app(
    settings: WebSettings, routes: Sequence[BaseRoute], on_disk_failed: Callable[[], None] = lambda: None
) -> ASGIApp:
    """An ASGI application that answers `routes` under the base path of the settings.

    `on_disk_failed` is called before the answer where a handler raised DiskFailed.
    """
    middleware = [
        Middleware(Compression, compresslevel=4, exclude_content_types=_COMPRESSED_ALREADY),
        Middleware(
            LimitedRequests, maximum=settings.maximum_request, silence_limit_s=settings.body_timeout_s
        ),
        Middleware(_Edge, settings=settings, on_disk_failed=on_disk_failed),
    ]
    if settings.cors_origins:
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=_EXPOSED,
            ),
        )
    return Starlette(
        routes=[Mount(settings.path, routes=routes)],
        middleware=middleware,
        exception_handlers={405: partial(_not_allowed, routes)},
    )


def client_address(request: Request) -> IPv4Address | IPv6Address:
    """Where the request came from; an IPv4 client of a socket for both is named as an IPv4 address."""
    return _address(request.scope)


def client_ae_title(request: Request) -> str:
    """What the configuration calls a client at that address; empty where it gives no name.

    HTTP has no AE titles, and a header could say anything.
    """
    name: str = request.scope["state"]["ae_title"]
    return name


class _Edge:
    """The edge of a request: who is not admitted gets no further; whatever is raised below is answered."""

    def __init__(self, app: ASGIApp, settings: WebSettings, on_disk_failed: Callable[[], None]) -> None:
        self._app, self._settings, self._on_disk_failed = app, settings, on_disk_failed
        self._rate = Rate(settings.requests_per_second, settings.requests_per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
            return
        answering = False

        async def note(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._admit(scope)
            await self._app(scope, receive, note)
        except ClientDisconnect:
            log.info("request.cut")
        except Exception as error:  # noqa: BLE001  the one edge
            if isinstance(error, DiskFailed):
                self._on_disk_failed()
            response = _answer(error)
            if not answering:
                await response(scope, receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Who is not admitted gets the same answer as to another request (RFC 6455 4.2.2)."""
        try:
            await self._admit(scope)
        except Exception as error:  # noqa: BLE001  the one edge
            await _answer(error)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001  the one edge
            if isinstance(error, DiskFailed):
                self._on_disk_failed()
            _answer(error)

    async def _admit(self, scope: Scope) -> None:
        """By the page, the name that is called, the address, and by who it says that it is, in this order."""
        self._admit_page(scope)
        self._admit_address(scope)
        if self._settings.guard is not None:
            said = Headers(scope=scope).get("authorization", "")
            await asyncio.to_thread(self._settings.guard, said, _address(scope))

    def _admit_page(self, scope: Scope) -> None:
        """A browser asks from where its user is, for whatever page: none elsewhere may change anything so.

        Nor listen: of a web socket a page reads whatever comes.
        """
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or origin in self._settings.cors_origins or scope.get("method") in _READS:
            return
        if not is_own_page(origin, headers.get("host"), self._settings.host_names):
            raise ForeignPage

    def _admit_address(self, scope: Scope) -> None:
        host = Headers(scope=scope).get("host")
        # No browser leaves it out.
        if host is not None and not is_own_host(host, self._settings.host_names):
            raise Misdirected
        address = _address(scope)
        for rule in self._settings.accept:
            if address in rule.network:
                if not self._rate.take(address):
                    raise TooManyRequests(self._settings.requests_per_second)
                state = scope.setdefault("state", {})
                state["ae_title"] = "" if rule.ae_title == "*" else rule.ae_title
                state["public_url"] = self._settings.public_url
                return
        raise Forbidden(str(address))


def _answer(error: Exception) -> PlainTextResponse:
    if isinstance(error, DicomnodeError):
        status = http_status(error)
        log.warning("request.refused", status=status, reason=type(error).__name__)
        retry_s = {429: RETRY_RATE_S, 503: RETRY_AFTER_S}.get(status)
        headers = {"Retry-After": str(retry_s)} if retry_s else {}
        if isinstance(error, Unauthorized):
            headers["WWW-Authenticate"] = ", ".join(error.challenges)
        return PlainTextResponse(f"{error}\n", status, headers=headers)
    # A traceback's text could hold a tag value; its place cannot.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    log.error("request.failed", status=500, reason=f"{type(error).__name__} at {where}")
    return PlainTextResponse("the node failed to answer this request\n", 500)


def _not_allowed(routes: Sequence[BaseRoute], request: Request, error: Exception) -> PlainTextResponse:  # noqa: ARG001  Starlette gives it
    """Which methods there are is told by all routes of the path, not by the first (RFC 9110 15.5.6)."""
    methods = {
        method
        for route in routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return PlainTextResponse("Method Not Allowed", 405, headers={"Allow": ", ".join(sorted(methods))})


def _address(scope: Scope) -> IPv4Address | IPv6Address:
    address = ip_address(scope["client"][0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
