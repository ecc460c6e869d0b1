"""A listening socket: connections in, associations out, each in threads of its own."""

from __future__ import annotations

import socket
import ssl
from socketserver import BaseServer
from typing import Any

import structlog
from pynetdicom.transport import ThreadedAssociationServer

from dicomnode.dimse.tls import HANDSHAKE_LIMIT_S

log = structlog.get_logger()


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """pynetdicom's, but for one thing: a TLS handshake has a deadline, and holds up nobody else."""

    request_queue_size = 128
    block_on_close = False

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection as it comes: the thread that accepts does not wait for any peer."""
        connection, address = self.socket.accept()
        return connection, address

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread of one connection, until its association has one."""
        if self.ssl_context is not None:
            try:
                request = _shaken_hands(self.ssl_context, request)
            except OSError as error:
                log.warning("tls.handshake_failed", address=client_address[0], reason=_reason(error))
                self.shutdown_request(request)
                return
        super().process_request_thread(request, client_address)

    def shutdown(self) -> None:
        """Stop listening."""
        BaseServer.shutdown(self)
        self.server_close()


class SharedServer(Server):
    """One of several processes on the same port: the kernel deals out the connections."""

    def server_bind(self) -> None:
        """Bind, as all the others do."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


def _shaken_hands(context: ssl.SSLContext, connection: socket.socket) -> ssl.SSLSocket:
    """The same connection with TLS; raises OSError where the peer does not manage that in time."""
    connection.settimeout(HANDSHAKE_LIMIT_S)
    wrapped = context.wrap_socket(connection, server_side=True)
    wrapped.settimeout(None)
    return wrapped


def _reason(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return reason or type(error).__name__
