"""Fragments become messages: C-STORE requests as they come in, all others as a whole (PS3.7 6.3, PS3.8 E)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dicomnode.dimse.command_set import (
    C_STORE_RQ,
    KNOWN_COMMANDS,
    Elements,
    StoreRequest,
    command_field,
    has_data_set,
    is_request,
    read_command,
    refusal,
)
from dicomnode.dimse.status import UNRECOGNIZED_OPERATION

COMMAND_LIMIT = 65_536
"""Bytes that a command set may have; those of the standard have some hundreds."""
MESSAGE_LIMIT = 64_000_000
"""Bytes that the data set of a message may have that is no C-STORE request."""
_COMMAND, _LAST = 0x01, 0x02


class Malformed(Exception):
    """What a peer sent is no DICOM message: the association cannot go on (PS3.8 9.2.2)."""


class Reception(Protocol):
    """A C-STORE request whose data set is on its way in."""

    def write(self, data: memoryview) -> None:
        """Take the next bytes; lets nothing escape."""

    def end(self) -> int:
        """The data set is complete; returns the status."""

    def discard(self) -> None:
        """It will not be completed."""


class Messages:
    """The messages of one association, one after the other.

    `read(n)` gives the next bytes of the fragment, at most n. `open_store` gives what takes a data set, or
    None where the presentation context was not accepted. `otherwise` takes the fragments of all other
    messages. `admit` returns when a request may be served. `instance_limit`: bytes of the data set of a
    C-STORE request.
    """

    def __init__(
        self,
        read: Callable[[int], memoryview],
        open_store: Callable[[int, StoreRequest], Reception | None],
        respond: Callable[[int, bytes], None],
        otherwise: Callable[[int, bytes], None],
        admit: Callable[[], None],
        instance_limit: int,
    ) -> None:
        self._admit, self._instance_limit, self._instance_bytes = admit, instance_limit, 0
        self._read, self._open_store, self._respond, self._otherwise = read, open_store, respond, otherwise
        self._command = bytearray()
        self._context_id = 0
        self._request: StoreRequest | None = None
        self._reception: Reception | None = None
        self._other_bytes: int | None = None
        self._is_unknown = False

    def take(self, context_id: int, control: int, length: int) -> None:
        """One fragment. Raises Malformed, and OSError where the connection ends."""
        if self.is_under_way and context_id != self._context_id:
            raise Malformed("two messages are sent at once")
        self._context_id = context_id
        is_last = bool(control & _LAST)
        if control & _COMMAND:
            self._take_command(length, is_last=is_last)
        elif self._reception is not None:
            self._take_instance(self._reception, length, is_last=is_last)
        else:
            self._take_other(length, control & _LAST)

    def discard(self) -> None:
        """What is under way will not be completed."""
        if self._reception is not None:
            self._reception.discard()
        self._reception, self._other_bytes = None, None
        self._command.clear()

    @property
    def is_under_way(self) -> bool:
        """True where a message has begun and has not ended."""
        return bool(self._command) or self._reception is not None or self._other_bytes is not None

    def _take_command(self, length: int, *, is_last: bool) -> None:
        if self._reception is not None or self._other_bytes is not None:
            raise Malformed("a data set was expected")
        if len(self._command) + length > COMMAND_LIMIT:
            raise Malformed("a command set is longer than may be")
        self._command += self._whole(length)
        if not is_last:
            return
        command = bytes(self._command)
        self._command.clear()
        try:
            elements = read_command(command)
            if is_request(elements):
                self._admit()
            if command_field(elements) == C_STORE_RQ:
                self._begin(StoreRequest.of(elements))
                return
            self._other_bytes = 0 if has_data_set(elements) else None
            self._is_unknown = command_field(elements) not in KNOWN_COMMANDS
            if self._is_unknown:
                self._refuse(elements)
                return
        except ValueError as error:
            raise Malformed(str(error)) from None
        self._otherwise(self._context_id, bytes([_COMMAND | _LAST]) + command)

    def _refuse(self, elements: Elements) -> None:
        """No service has such an operation (PS3.7 C.5.24)."""
        self._respond(self._context_id, refusal(elements, UNRECOGNIZED_OPERATION))

    def _begin(self, request: StoreRequest) -> None:
        self._request, self._reception = request, self._open_store(self._context_id, request)
        if self._reception is None:
            raise Malformed("the presentation context was not accepted")
        self._instance_bytes = 0
        if not request.has_data_set:
            self._end(self._reception)

    def _take_instance(self, reception: Reception, length: int, *, is_last: bool) -> None:
        self._instance_bytes += length
        if self._instance_bytes > self._instance_limit:
            raise Malformed("a data set is longer than may be")
        while length:
            piece = self._read(length)
            reception.write(piece)
            length -= len(piece)
        if is_last:
            self._end(reception)

    def _end(self, reception: Reception) -> None:
        assert self._request is not None  # noqa: S101  told to the type checker
        status = reception.end()
        self._reception = None
        self._respond(self._context_id, self._request.response(status))

    def _take_other(self, length: int, last: int) -> None:
        if self._other_bytes is None:
            raise Malformed("there is no command set")
        self._other_bytes += length
        if self._other_bytes > MESSAGE_LIMIT:
            raise Malformed("a data set is longer than may be")
        if last:
            self._other_bytes = None
        data = self._whole(length)
        if not self._is_unknown:
            self._otherwise(self._context_id, bytes([last]) + data)

    def _whole(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            data += self._read(length - len(data))
        return bytes(data)
