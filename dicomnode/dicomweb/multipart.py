"""Multipart bodies split as they come in, however they are cut into blocks (RFC 2046 5.1, RFC 2387)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dicomnode.errors import BadRequest, RequestTooLarge

MAXIMUM_PREAMBLE = 65_536
MAXIMUM_HEADERS = 16_384
_MAXIMUM_PADDING = 256
# RFC 2046 ends at 70 characters; Orthanc sends 73.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")
_AFTER_DELIMITER = re.compile(rb"(--)|[ \t]*\r\n")
_MAY_FOLLOW_DELIMITER = re.compile(rb"-?|[ \t]*\r?")


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part with these headers, their names in lower case; its bytes follow."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The part is complete."""


Event = PartBegins | memoryview | PartEnds
"""What a body consists of; a memoryview is bytes of the part that began last."""


class MultipartParser:
    """Fed with a body in blocks, yields its parts' headers, bytes and ends. Holds no more than a block.

    Raises BadRequest where the body is not multipart, RequestTooLarge where it has too many parts.
    """

    def __init__(self, boundary: str, maximum_parts: int) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise BadRequest("the boundary is missing or is none (RFC 2046 5.1.1)")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._maximum_parts, self._parts = maximum_parts, 0
        # The first delimiter may stand at the very beginning, without its line break.
        self._held, self._at, self._unseen = b"\r\n", 0, 2
        self._preamble = 0
        self._state: Callable[[], Iterator[Event]] = self._in_preamble
        self._waiting = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events of the next block; each is used before the next is asked for."""
        self._held, self._at = self._held[self._at :] + data, 0
        self._waiting = False
        while not self._waiting:
            yield from self._state()

    def finish(self) -> None:
        """The body has ended. Raises BadRequest where its last delimiter did not come."""
        if self._state != self._in_epilogue:
            raise BadRequest("the body ends before its closing delimiter")

    def _in_preamble(self) -> Iterator[Event]:
        for view in self._until_delimiter():
            self._preamble += len(view)
        if self._preamble > MAXIMUM_PREAMBLE:
            raise BadRequest("no delimiter where the first part should begin")
        yield from ()

    def _in_part(self) -> Iterator[Event]:
        yield from self._until_delimiter()
        if self._state != self._in_part:
            yield PartEnds()

    def _in_headers(self) -> Iterator[Event]:
        end = self._held.find(b"\r\n\r\n", self._at)
        if (end if end >= 0 else len(self._held)) - self._at > MAXIMUM_HEADERS:
            raise BadRequest("the headers of a part are too long")
        if end < 0:
            self._waiting = True
            return
        self._parts += 1
        if self._parts > self._maximum_parts:
            raise RequestTooLarge(self._maximum_parts, "parts")
        yield PartBegins(_headers(self._held[self._at + 2 : end]))
        # An empty part's delimiter may use the line break that ends the headers.
        self._at, self._unseen = end + 2, 2
        self._state = self._in_part

    def _in_epilogue(self) -> Iterator[Event]:
        self._at, self._waiting = len(self._held), True
        yield from ()

    def _until_delimiter(self) -> Iterator[memoryview]:
        """What is before the next delimiter, as far as it is there; moves on when it was found."""
        at = self._at
        while True:
            at = self._held.find(self._delimiter, at)
            if at < 0:
                yield from self._release(self._possible_delimiter())
                return
            after = at + len(self._delimiter)
            follows = _AFTER_DELIMITER.match(self._held, after)
            if follows is not None:
                yield from self._release(at)
                # The line break belongs to the headers, which may be none.
                self._at = follows.end() - (0 if follows[1] else 2)
                self._state = self._in_epilogue if follows[1] else self._in_headers
                self._waiting = False
                return
            rest = self._held[after : after + _MAXIMUM_PADDING]
            if _MAY_FOLLOW_DELIMITER.fullmatch(rest) and len(rest) < _MAXIMUM_PADDING:
                yield from self._release(at)
                return
            at = after

    def _possible_delimiter(self) -> int:
        """Where a delimiter may have begun whose end is still to come."""
        at = self._held.find(b"\r", max(self._at, len(self._held) - len(self._delimiter) + 1))
        while at >= 0 and not self._delimiter.startswith(self._held[at:]):
            at = self._held.find(b"\r", at + 1)
        return len(self._held) if at < 0 else at

    def _release(self, end: int) -> Iterator[memoryview]:
        """What is before `end`, without the line break that came before it; then more has to come."""
        start = self._at + self._unseen
        if end > start:
            yield memoryview(self._held)[start:end]
        self._unseen = max(0, start - end)
        self._at, self._waiting = end, True


def _headers(lines: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines.decode("latin-1").split("\r\n") if lines else ():
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest("a header of a part cannot be read")
        headers.setdefault(name.lower(), value.strip())
    return headers
