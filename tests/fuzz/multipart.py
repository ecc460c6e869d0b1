"""Bytes as a multipart body: however it is cut into blocks, the same parts come of it."""

from __future__ import annotations

import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["dicomnode.dicomweb"]):
    from dicomnode.dicomweb.file_head import parse_file_head
    from dicomnode.dicomweb.media import parse_accept, parse_media_type
    from dicomnode.dicomweb.multipart import MultipartParser, PartBegins, PartEnds

from dicomnode.errors import DicomnodeError


def parts(body: bytes, block: int) -> list[object]:
    """What the parser makes of a body that comes in blocks; the error last."""
    found: list[object] = []
    parser = MultipartParser("b", 20)
    try:
        for at in range(0, len(body), block):
            for event in parser.feed(body[at : at + block]):
                if isinstance(event, PartBegins):
                    found.append((tuple(event.headers.items()), bytearray()))
                elif isinstance(event, PartEnds):
                    found.append("end")
                else:
                    found[-1][1].extend(event)
        parser.finish()
    except DicomnodeError as error:
        found.append(type(error).__name__)
    return found


def take(data: bytes) -> None:
    """The first byte is the length of the blocks."""
    if not data:
        return
    body = data[1:]
    whole, pieces = parts(body, len(body) or 1), parts(body, data[0] % 60 + 1)
    if _is_refused(whole) != _is_refused(pieces) or not (_is_refused(whole) or whole == pieces):
        raise AssertionError("the blocks decide")
    text = body.decode("latin-1")
    for read in (lambda: parse_file_head(body), lambda: parse_media_type(text), lambda: parse_accept(text)):
        with suppress(DicomnodeError):
            read()


def _is_refused(found: list[object]) -> bool:
    return bool(found) and isinstance(found[-1], str) and found[-1] != "end"


if __name__ == "__main__":
    atheris.Setup(sys.argv, take)
    atheris.Fuzz()
