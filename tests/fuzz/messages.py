"""Bytes as the P-DATA of an association: they are messages, or malformed, and nothing else."""

from __future__ import annotations

import struct
import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["dicomnode.dimse"]):
    from dicomnode.dimse.command_set import StoreRequest
    from dicomnode.dimse.messages import Malformed, Messages


class _Taken:
    """A data set that is only counted."""

    def __init__(self) -> None:
        self.length = 0

    def write(self, data: memoryview) -> None:
        self.length += len(data)

    def end(self) -> int:
        return 0

    def discard(self) -> None:
        self.length = 0


class _Wire:
    """What is left of the bytes; the connection ends with them."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def read(self, limit: int) -> memoryview:
        if not self._data:
            raise ConnectionResetError
        piece, self._data = self._data[: min(limit, 100)], self._data[min(limit, 100) :]
        return piece


def take(data: bytes) -> None:
    """Fragments: context, control and a length of 16 bits before each."""
    wire = _Wire(data)
    answers: list[bytes] = []

    def open_store(context_id: int, _: StoreRequest) -> _Taken | None:
        return _Taken() if context_id % 2 else None

    messages = Messages(
        wire.read,
        open_store,
        lambda _, response: answers.append(response),
        lambda *_: None,
        lambda: None,
        10_000,
    )
    head = b""
    with suppress(Malformed, ConnectionResetError):
        while True:
            while len(head) < 4:
                head += wire.read(4 - len(head))
            context_id, control, length = struct.unpack("<BBH", head)
            head = b""
            messages.take(context_id, control, length)
    messages.discard()
    if any(len(answer) < 12 for answer in answers):
        raise AssertionError("an answer is no command set")


if __name__ == "__main__":
    atheris.Setup(sys.argv, take)
    atheris.Fuzz()
