"""An HTTP server in a thread of its own: knows its port, and stops within a limit."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from ipaddress import ip_address
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger()

HEAD_LIMIT_S = 20.0
"""How long a client may take to send the head of a request, its first one or a further one."""
HEAD_LIMIT = 65_536
"""Bytes that the request line and the headers may have."""
BACKLOG = 128
_START_LIMIT_S = 30.0


class WebServer:
    """Serves an ASGI application over HTTP/1.1 until it is stopped.

    `shared`: other processes listen on the same port, and the kernel deals out the connections.
    """

    def __init__(
        self, app: ASGIApp, address: str, port: int, *, maximum_connections: int = 100, shared: bool = False
    ) -> None:
        self._address, self._port, self._shared = address, port, shared
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                loop="uvloop",
                lifespan="off",
                log_config=None,
                log_level=logging.CRITICAL,
                # A query names patients; the application logs what may be known.
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=maximum_connections,
                timeout_keep_alive=int(HEAD_LIMIT_S),
            )
        )
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, also where the settings say 0."""
        if self._socket is None:
            raise RuntimeError("the web server has not been started")
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Listen, and return. Raises OSError where the address cannot be had."""
        self._socket = _listen(self._address, self._port, shared=self._shared)
        self._thread.start()

    def stop(self, limit_s: float) -> None:
        """Take no new connection; requests in the air may end within `limit_s`, then they are cut."""
        if self._socket is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, int(limit_s))
        self._server.should_exit = True
        self._thread.join(limit_s + _START_LIMIT_S)
        log.info("web.stopped")

    def _serve(self) -> None:
        assert self._socket is not None  # noqa: S101  told to the type checker
        self._server.run(sockets=[self._socket])


def _listen(address: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with an end to waiting for a head and to its length."""

    _deadline: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is not None:
            self._head += len(data)
            if self._head > HEAD_LIMIT:
                self.transport.close()

    def on_message_begin(self) -> None:
        self._begin_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._end_head()
        self._deadline = self.loop.call_later(HEAD_LIMIT_S, self.transport.close)

    def _end_head(self) -> None:
        self._head = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
