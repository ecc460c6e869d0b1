# ruff: noqa: SLF001
"""What pynetdicom's upper layer does differently here: it waits instead of looking, and streams C-STORE.

Everything that this package needs of pynetdicom's inside to be fast is in this module (PS3.8 9). pynetdicom
looks for work a thousand times a second in two threads for each association, reads 4 KiB at a time, and keeps
each data set in memory until it is complete. Here both threads sleep until there is something to do, and
P-DATA goes from the socket to those who take messages, fragment by fragment. Negotiation, the state machine
and all other messages stay pynetdicom's. A test holds what is relied on against the version that is pinned.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from dicomnode.dimse.command_set import StoreRequest, p_data_tf
from dicomnode.dimse.messages import Malformed, Messages, Reception
from dicomnode.dimse.pace import Pace

LONGEST_PDU = 16_777_216
"""No PDU but P-DATA is longer: what it claims beyond that is not waited for (PS3.8 9.3)."""
_LOOK_S = 0.25
"""How often those who wait look at their timers all the same."""
_BUFFER = 262_144
_P_DATA_TF = 0x04
_MOST_VALUES = 1024
"""Presentation data values in one PDU; senders have one or two."""
_DATA_TRANSFER, _AWAITING_CLOSE = "Sta6", "Sta13"
_ONE = (1).to_bytes(8, "little")
_ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 6))
"""A-ABORT by the service provider: invalid PDU parameter value (PS3.8 9.3.8)."""


def adopt(
    assoc: Association,
    open_store: Callable[[int, StoreRequest], Reception | None],
    admit: Callable[[], None],
    instance_limit: int,
    on_end: Callable[[], None],
) -> None:
    """Give an association that has not started yet this upper layer, and C-STORE requests to `open_store`.

    `admit` returns when a request may be served. `instance_limit`: bytes of one data set; what is longer is
    aborted. `on_end`: its connection is over.
    """
    connection = assoc.dul.socket.socket
    assoc.dul = layer = UpperLayer(assoc, on_end)
    # These set the timers of the layer, too.
    assoc.acse_timeout, assoc.network_timeout = assoc.acse_timeout, assoc.network_timeout
    layer.socket = wire = Connection(assoc, connection)
    layer.messages = Messages(
        wire.read, open_store, layer.respond, layer.receive_otherwise, admit, instance_limit
    )
    news = threading.Event()
    assoc.dimse.msg_queue, layer.to_user_queue = queues = _Noticed(news), _Noticed(news)
    assoc._reactor_checkpoint = _Checkpoint(news, queues)


def pause_surely(assoc: Association) -> None:
    """Have a requestor's thread really stand still while a request is made.

    pynetdicom takes the thread for paused that has been let go and has not moved yet: on a busy machine it
    takes the response away from who waits for it, and the request ends with the time limit.
    """
    assoc._reactor_checkpoint = Turnstile(assoc)


class UpperLayer(DULServiceProvider):  # type: ignore[misc]
    """pynetdicom's, whose thread sleeps until bytes come or something is to be sent."""

    messages: Messages

    def __init__(self, assoc: Association, on_end: Callable[[], None]) -> None:
        super().__init__(assoc)
        self._run_loop_delay, self._on_end = 0, on_end
        self.state_machine = _Guarded(self)

    def run_reactor(self) -> None:
        """The life of this thread: pynetdicom's, and an end to what was under way."""
        try:
            super().run_reactor()
        finally:
            self.messages.discard()
            self.socket.forget()
            self._on_end()

    def send_pdu(self, primitive: Any) -> None:
        """Have it sent, at once."""
        super().send_pdu(primitive)
        self.socket.wake()

    def respond(self, context_id: int, command: bytes) -> None:
        """Send a command set; for this layer's own thread, in data transfer."""
        self.socket.send(p_data_tf(context_id, command))

    def receive_otherwise(self, context_id: int, fragment: bytes) -> None:
        """A fragment of a message that is pynetdicom's (PS3.8 9.3.5.1)."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.append([context_id, fragment])
        self.assoc.dimse.receive_primitive(primitive)

    def stop_dul(self) -> bool:
        """Stop, where there is no connection any more."""
        if self.state_machine.current_state == "Sta1":
            self._kill_thread = True
            self.socket.wake()
        return bool(super().stop_dul())

    def _read_pdu_data(self) -> None:
        """PDUs from the socket, as long as they are P-DATA and nothing else is to be done.

        To go back to pynetdicom between them is to sleep: even for no time at all, that takes a while.
        """
        while self._read_one():
            if self._kill_thread or not (self.to_provider_queue.empty() and self.event_queue.empty()):
                return
            if not self.socket.ready:
                return

    def _read_one(self) -> bool:
        """One PDU: P-DATA is passed on as it comes, then this is True; the others are pynetdicom's."""
        try:
            if not self.messages.is_under_way:
                self.socket.pace.begin()
            kind, length = struct.unpack(">BxL", self.socket.peek(6))
            if length > LONGEST_PDU and (kind != _P_DATA_TF or self.assoc.acceptor.maximum_length):
                raise Malformed("a PDU is longer than may be")
            if kind == _P_DATA_TF and self.state_machine.current_state == _DATA_TRANSFER:
                self._read_fragments(length)
                return True
            self.messages.discard()
        except Malformed:
            self.messages.discard()
            self.socket.drop()
            self.event_queue.put("Evt19")
        except OSError:
            self.messages.discard()
            self.event_queue.put("Evt17")
        else:
            super()._read_pdu_data()
        return False

    def _read_fragments(self, length: int) -> None:
        """The presentation data values of one PDU (PS3.8 9.3.5)."""
        self.socket.recv(6)
        values = 0
        while length:
            values += 1
            if length < 6 or values > _MOST_VALUES:
                raise Malformed("a presentation data value has no head, or is one of too many")
            item, context_id, control = struct.unpack(">LBB", self.socket.recv(6))
            length -= 4 + item
            if item < 2 or length < 0:
                raise Malformed("a presentation data value is longer than its PDU")
            self.messages.take(context_id, control, item - 2)
            self._idle_timer.restart()


class Connection(AssociationSocket):  # type: ignore[misc]
    """pynetdicom's, read by the block, and waited for."""

    def __init__(self, assoc: Association, connection: socket.socket) -> None:
        super().__init__(assoc, client_socket=connection)
        self._view = memoryview(bytearray(_BUFFER))
        self._at = self._end = 0
        self.pace = Pace()
        self._waker = os.fdopen(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+b", buffering=0)
        self._poll = select.poll()
        self._poll.register(self._waker, select.POLLIN)
        self._poll.register(connection, select.POLLIN)

    def wake(self) -> None:
        """End the wait of the upper layer's thread; from any thread."""
        with suppress(ValueError, OSError):
            self._waker.write(_ONE)

    def forget(self) -> None:
        """Give back what only waiting needs."""
        self._waker.close()

    @property
    def ready(self) -> bool:
        """True as soon as there are bytes to read; False after a while, or for something else to be done."""
        if self._at < self._end:
            return True
        connection = self.socket
        if connection is None:
            select.select([self._waker], [], [], _LOOK_S)
            return False
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        layer = self.assoc.dul
        is_busy = layer.state_machine.current_state == _AWAITING_CLOSE or not layer.event_queue.empty()
        with self.pace.waiting(self._silence_limit_s if layer.messages.is_under_way else None):
            waited = [descriptor for descriptor, _ in self._poll.poll(0 if is_busy else _LOOK_S * 1000)]
        if self._waker.fileno() in waited:
            self._waker.read(8)
            waited.remove(self._waker.fileno())
        return bool(waited)

    def read(self, limit: int) -> memoryview:
        """The next bytes, at most `limit`, until the next call. Raises OSError."""
        if self._at == self._end:
            self._fill()
        piece = self._view[self._at : min(self._end, self._at + limit)]
        self._at += len(piece)
        return piece

    def recv(self, nr_bytes: int) -> bytearray:
        """So many bytes. Raises OSError."""
        data = bytearray()
        while len(data) < nr_bytes:
            data += self.read(nr_bytes - len(data))
        return data

    def peek(self, length: int) -> memoryview:
        """The next bytes, which stay to be read. Raises OSError."""
        while self._end - self._at < length:
            self._fill()
        return self._view[self._at : self._at + length]

    def drop(self) -> None:
        """Forget what has come and was not read: nobody knows what it is."""
        self._at = self._end = 0

    def _fill(self) -> None:
        held = self._end - self._at
        if held:
            self._view[:held] = self._view[self._at : self._end]
        self._at, self._end = 0, held
        if self.socket is None:
            raise ConnectionResetError
        with self.pace.waiting(self._silence_limit_s):
            got = self.socket.recv_into(self._view[held:])
        if not got:
            raise ConnectionResetError
        self.pace.sent(got)
        self._end += got

    @property
    def _silence_limit_s(self) -> float | None:
        """How long a peer may be silent: until it has an association, it has said nothing of value."""
        is_known = self.assoc.dul.state_machine.current_state == _DATA_TRANSFER
        limit_s: float | None = self.assoc.network_timeout if is_known else self.assoc.acse_timeout
        return limit_s


class _Guarded(StateMachine):  # type: ignore[misc]
    """pynetdicom's; a PDU that it cannot make sense of ends the association, not the thread that reads it."""

    def do_action(self, event: str) -> None:
        """Go on to the next state, or abort (PS3.8 9.3.8)."""
        try:
            super().do_action(event)
        except Exception:  # noqa: BLE001  pynetdicom raises what it likes on what peers send
            layer = self.dul
            layer.socket.send(_ABORT)
            layer.socket.close()
            layer.assoc.is_aborted, layer.assoc.is_established = True, False
            layer.assoc._kill = True
            layer.kill_dul()


class _Noticed(queue.Queue[Any]):
    """A queue that gives notice of what is put into it."""

    def __init__(self, news: threading.Event) -> None:
        super().__init__()
        self._news = news

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._news.set()


class _Checkpoint(threading.Event):
    """Where the association's thread passes between two looks for work: it opens when there is some."""

    def __init__(self, news: threading.Event, queues: Sequence[_Noticed]) -> None:
        super().__init__()
        self._news, self._queues = news, queues
        self.set()

    def set(self) -> None:
        super().set()
        self._news.set()

    def wait(self, timeout: float | None = None) -> bool:
        self._news.clear()
        if not any(each.qsize() for each in self._queues):
            self._news.wait(_LOOK_S)
        return super().wait(timeout)


class Turnstile(threading.Event):
    """A checkpoint that is closed only once `passer` stands before it, or has ended."""

    def __init__(self, passer: threading.Thread) -> None:
        super().__init__()
        self._passer, self._moved = passer, threading.Condition()
        self._has_passed = True
        self.set()

    def clear(self) -> None:
        """Close it; returns when nobody is on the way."""
        super().clear()
        with self._moved:
            while (
                self._has_passed
                and self._passer.is_alive()
                and self._passer is not threading.current_thread()
            ):
                self._moved.wait(_LOOK_S)

    def wait(self, timeout: float | None = None) -> bool:
        """Stand before it until it is open."""
        with self._moved:
            self._has_passed = False
            self._moved.notify_all()
        while True:
            is_open = super().wait(timeout)
            with self._moved:
                # Closed again meanwhile: who closed it has seen us here.
                if timeout is not None or self.is_set():
                    self._has_passed = is_open
                    return is_open
