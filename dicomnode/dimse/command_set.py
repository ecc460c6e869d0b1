"""Command sets, as far as a C-STORE needs them: read once, answered once (PS3.7 6.3.1, 9.3.1, E.1)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

C_STORE_RQ = 0x0001
KNOWN_COMMANDS = frozenset(
    {0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0FFF}
    | {0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150}
    | {0x8001, 0x8010, 0x8020, 0x8021, 0x8030, 0x8100, 0x8110, 0x8120, 0x8130, 0x8140, 0x8150}
)
"""What Command Field can be (PS3.7 E.1)."""
_RESPONSE = 0x8000
_C_CANCEL_RQ = 0x0FFF
_C_STORE_RSP = C_STORE_RQ | _RESPONSE
_NO_DATA_SET = 0x0101
_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_RESPONDED_TO = 0x0120
_COMMAND_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_AFFECTED_SOP_INSTANCE_UID = 0x1000
_MOVE_ORIGINATOR = 0x1030
_UID_LIMIT = 64
_P_DATA_TF, _COMMAND_AND_LAST = 0x04, 0x03

Elements = Mapping[int, bytes]
"""The values of a command set by element number; the group is 0000."""


def read_command(data: bytes) -> dict[int, bytes]:
    """The elements of a command set, which is in Implicit VR Little Endian. Raises ValueError."""
    elements: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("a command set ends within an element")
        group, number, length = struct.unpack_from("<HHL", data, at)
        at += 8
        if group or length > len(data) - at:
            raise ValueError("a command set has an element that does not belong there")
        elements[number] = data[at : at + length]
        at += length
    return elements


def command_field(elements: Elements) -> int:
    """Which message it is. Raises ValueError."""
    return _number(elements, _COMMAND_FIELD)


def is_request(elements: Elements) -> bool:
    """False for responses, and for C-CANCEL, which asks for less. Raises ValueError."""
    field = command_field(elements)
    return not field & _RESPONSE and field != _C_CANCEL_RQ


def has_data_set(elements: Elements) -> bool:
    """True where a data set follows. Raises ValueError."""
    return _number(elements, _COMMAND_DATA_SET_TYPE) != _NO_DATA_SET


def refusal(elements: Elements, status: int) -> bytes:
    """The command set of a response to a request of any kind. Raises ValueError."""
    return _encoded(
        (_COMMAND_FIELD, struct.pack("<H", command_field(elements) | _RESPONSE)),
        (_MESSAGE_ID_RESPONDED_TO, struct.pack("<H", _number(elements, _MESSAGE_ID))),
        (_COMMAND_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
        (_STATUS, struct.pack("<H", status)),
    )


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE request says ahead of its data set; a UID that is not there is empty."""

    message_id: int
    SOPClassUID: str
    SOPInstanceUID: str
    has_data_set: bool
    originator: str = ""

    @classmethod
    def of(cls, elements: Elements) -> StoreRequest:
        """The same as a value. Raises ValueError."""
        return cls(
            _number(elements, _MESSAGE_ID),
            _text(elements, _AFFECTED_SOP_CLASS_UID),
            _text(elements, _AFFECTED_SOP_INSTANCE_UID),
            has_data_set(elements),
            _text(elements, _MOVE_ORIGINATOR),
        )

    def response(self, status: int) -> bytes:
        """The command set of the response."""
        return _encoded(
            (_AFFECTED_SOP_CLASS_UID, _uid(self.SOPClassUID)),
            (_COMMAND_FIELD, struct.pack("<H", _C_STORE_RSP)),
            (_MESSAGE_ID_RESPONDED_TO, struct.pack("<H", self.message_id)),
            (_COMMAND_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
            (_STATUS, struct.pack("<H", status)),
            (_AFFECTED_SOP_INSTANCE_UID, _uid(self.SOPInstanceUID)),
        )


def p_data_tf(context_id: int, command: bytes) -> bytes:
    """A command set as a PDU; one of these is shorter than any limit on PDUs (PS3.8 9.3.5)."""
    length = len(command) + 2
    return struct.pack(">BxLLBB", _P_DATA_TF, length + 4, length, context_id, _COMMAND_AND_LAST) + command


def _encoded(*values: tuple[int, bytes]) -> bytes:
    elements = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in values)
    return struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements


def _number(elements: Elements, number: int) -> int:
    value = elements.get(number, b"")
    if len(value) != 2:
        raise ValueError("a command set lacks an element that it needs")
    return int.from_bytes(value, "little")


def _text(elements: Elements, number: int) -> str:
    return elements.get(number, b"").decode("ascii", errors="replace").strip(" \0")


def _uid(text: str) -> bytes:
    value = text[:_UID_LIMIT].encode("ascii", errors="replace")
    return value + b"\0" * (len(value) % 2)
