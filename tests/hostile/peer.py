"""A peer that says any bytes: PDUs and command sets by hand (PS3.8 9.3, PS3.7 6.3)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
RQ, AC, RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 1, 2, 3, 4, 5, 6, 7
ECHO_CONTEXT, CT_CONTEXT = 1, 3
CONTEXTS = (
    (ECHO_CONTEXT, VERIFICATION, (ImplicitVRLittleEndian,)),
    (CT_CONTEXT, CTImageStorage, (ExplicitVRLittleEndian,)),
)
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
NO_DATA_SET = 0x0101


def pdu(kind: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A PDU; `length` is what it claims."""
    return struct.pack(">BBL", kind, 0, len(payload) if length is None else length) + payload


def item(kind: int, payload: bytes, length: int | None = None) -> bytes:
    """An item of an A-ASSOCIATE-RQ; `length` is what it claims."""
    return struct.pack(">BBH", kind, 0, len(payload) if length is None else length) + payload


def proposed(number: int, abstract: str, syntaxes: Sequence[str]) -> bytes:
    """A presentation context item (PS3.8 9.3.2.2)."""
    names = item(0x30, abstract.encode()) + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
    return item(0x20, struct.pack(">BBBB", number, 0, 0, 0) + names)


def associate_rq(
    contexts: Iterable[tuple[int, str, Sequence[str]]] = CONTEXTS,
    called: bytes = b"NODE",
    calling: bytes = b"RAW",
    version: int = 1,
    items: bytes | None = None,
    more: bytes = b"",
) -> bytes:
    """An A-ASSOCIATE-RQ; `items` in place of those that belong there, `more` after them."""
    user = item(0x50, item(0x51, struct.pack(">L", 16_384)) + item(0x52, b"1.2.3.4"))
    usual = item(0x10, APPLICATION_CONTEXT) + b"".join(proposed(*each) for each in contexts) + user
    head = struct.pack(">HH16s16s32x", version, 0, called.ljust(16), calling.ljust(16))
    return pdu(RQ, head + (usual if items is None else items) + more)


def pdv(context: int, control: int, data: bytes, length: int | None = None) -> bytes:
    """A presentation data value; `control`: 1 is a command, 2 the last fragment (PS3.8 E.2)."""
    return struct.pack(">LBB", len(data) + 2 if length is None else length, context, control) + data


def command(elements: dict[int, bytes], group_length: int | None = None) -> bytes:
    """A command set by element number, Implicit VR Little Endian (PS3.7 6.3.1)."""
    body = b"".join(
        struct.pack("<HHL", 0, number, len(value)) + value for number, value in sorted(elements.items())
    )
    length = len(body) if group_length is None else group_length
    return struct.pack("<HHLL", 0, 0, 4, length) + body


def uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def us(value: int) -> bytes:
    return struct.pack("<H", value)


def echo_rq() -> dict[int, bytes]:
    """The elements of a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return {0x0002: uid(VERIFICATION), 0x0100: us(C_ECHO_RQ), 0x0110: us(7), 0x0800: us(NO_DATA_SET)}


def store_rq(SOPInstanceUID: str, SOPClassUID: str = CTImageStorage) -> dict[int, bytes]:
    """The elements of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    return {
        0x0002: uid(SOPClassUID),
        0x0100: us(C_STORE_RQ),
        0x0110: us(7),
        0x0700: us(0),
        0x0800: us(1),
        0x1000: uid(SOPInstanceUID),
    }


class RawPeer:
    """One TCP connection to a receiver."""

    def __init__(self, port: int, limit_s: float = 15.0) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=limit_s)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def say(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hear(self) -> tuple[int, bytes] | None:
        """The next PDU: its type and what is in it; None where the connection ends."""
        head = self._read(6)
        if len(head) < 6:
            return None
        kind, _, length = struct.unpack(">BBL", head)
        return kind, self._read(length)

    def _read(self, length: int) -> bytes:
        data = b""
        try:
            while len(data) < length and (chunk := self.connection.recv(length - len(data))):
                data += chunk
        except ConnectionError:
            pass
        return data

    def associate(self, *contexts: tuple[int, str, Sequence[str]], calling: bytes = b"RAW") -> Self:
        """Open an association that has to be accepted."""
        self.say(associate_rq(contexts or CONTEXTS, calling=calling))
        heard = self.hear()
        assert heard is not None
        assert heard[0] == AC, heard
        return self

    def send(self, context: int, elements: dict[int, bytes], data: bytes | None = None) -> None:
        """A message, its data set in fragments of 8 kB."""
        self.say(pdu(P_DATA, pdv(context, 3, command(elements))))
        if data is not None:
            self.fragments(context, data)

    def fragments(self, context: int, data: bytes, last: int = 2) -> None:
        """A data set; `last` 0 where its last fragment does not say that it is."""
        pieces = [data[at : at + 8192] for at in range(0, len(data), 8192)] or [b""]
        for number, piece in enumerate(pieces, 1):
            self.say(pdu(P_DATA, pdv(context, last if number == len(pieces) else 0, piece)))

    def status(self) -> int:
        """The Status of the response that comes next."""
        heard = self.hear()
        assert heard is not None, "the connection was closed"
        kind, payload = heard
        assert kind == P_DATA, heard
        return status_of(payload[6:])

    def release(self) -> None:
        self.say(pdu(RELEASE_RQ, bytes(4)))
        heard = self.hear()
        assert heard is not None
        assert heard[0] == RELEASE_RP

    def ends(self) -> str:
        """How the receiver ends it: "abort" or "close"; responses on the way there are passed over."""
        while (heard := self.hear()) is not None:
            if heard[0] == ABORT:
                return "abort"
        return "close"


def status_of(command_set: bytes) -> int:
    """Status (0000,0900) of a response's command set."""
    at = 0
    while at + 8 <= len(command_set):
        group, number, length = struct.unpack_from("<HHL", command_set, at)
        if (group, number) == (0, 0x0900):
            return int.from_bytes(command_set[at + 8 : at + 8 + length], "little")
        at += 8 + length
    raise AssertionError("the response has no Status")
