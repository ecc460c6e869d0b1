"""Options of the TCP connection below an association (PS3.8 9.1)."""

from __future__ import annotations

import socket
import struct

from pynetdicom.events import Event


def prepare_socket(event: Event, stall_limit_s: float) -> None:
    """Handler of EVT_CONN_OPEN: no delay for small messages, and a limit on each read and write.

    Without TCP_NODELAY a response waits for the acknowledgement of what went before: 40 ms an instance. The
    limit ends a peer that stops in the middle of a PDU, or that no longer reads: pynetdicom waits for both
    without end.
    """
    wrapper = event.assoc.dul.socket
    connection = wrapper.socket if wrapper else None
    if connection is None:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    limit = struct.pack("ll", int(stall_limit_s), int(stall_limit_s % 1 * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, limit)
