"""What is retrieved, as HTTP carries it: parts, byte ranges, entity tags (PS3.18 8.6, RFC 9110)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomnode.dicomweb.ranges import wanted_ranges

_CHUNK = 1 << 20
_SMALL = 1 << 18


@dataclass(frozen=True, slots=True)
class FileSlice:
    """`length` bytes of a file from `start` on."""

    path: PathLike[str]
    start: int
    length: int

    def cut(self, first: int, length: int) -> FileSlice:
        """The part that begins `first` bytes further on."""
        return FileSlice(self.path, self.start + first, length)

    def chunks(self) -> Iterator[bytes]:
        """The bytes, a little at a time."""
        left = self.length
        with Path(self.path).open("rb", buffering=0) as file:
            file.seek(self.start)
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk


Content = FileSlice | bytes


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body; `location` is its own URL, `place` its Content-Range in a whole."""

    media_type: str
    content: Content
    location: str = ""
    place: str = ""


def multipart(kind: str, parts: Iterable[Part], size: int | None, etag: str) -> StreamingResponse:
    """multipart/related; `kind` is the type of its parts, `size` that of their contents where it is known."""
    # The tag stands for every byte, so that the boundary cannot be another one each time. It is a digest of
    # what is in the parts: none of them can have it in itself.
    boundary = etag.strip('"')
    headers = {"ETag": etag, "Vary": "Accept"}
    if size is not None:
        headers["Content-Length"] = str(size)
    return StreamingResponse(
        _joined(_body(boundary, parts)),
        media_type=f'multipart/related; type="{kind}"; boundary={boundary}',
        headers=headers,
    )


def multipart_of_known_size(kind: str, parts: Sequence[Part], etag: str) -> StreamingResponse:
    """The same where each part is at hand: its length can be told before it is sent."""
    return multipart(kind, parts, _size(parts), etag)


def after(first: Part, others: Iterable[Part]) -> Iterator[Part]:
    """`first`, which was made before the answer began, then the others."""
    yield first
    yield from others


def _size(parts: Sequence[Part]) -> int:
    heads = sum(len(_head("0" * 32, part)) + 2 for part in parts)
    return heads + sum(length_of(part.content) for part in parts) + len(_end("0" * 32))


def _body(boundary: str, parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        yield _head(boundary, part)
        if isinstance(part.content, bytes):
            yield part.content
        else:
            yield from part.content.chunks()
        yield b"\r\n"
    yield _end(boundary)


def _head(boundary: str, part: Part) -> bytes:
    location = f"Content-Location: {part.location}\r\n" if part.location else ""
    place = f"Content-Range: {part.place}\r\n" if part.place else ""
    return f"--{boundary}\r\nContent-Type: {part.media_type}\r\n{location}{place}\r\n".encode()


def _end(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()


def _joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Fewer, larger writes: each costs a turn of the server's loop."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= _SMALL:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def single(request: Request, media_type: str, content: Content, etag: str) -> Response:
    """One representation, or the bytes of it that a Range header asks for; several in parts (RFC 9110 14)."""
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Vary": "Accept"}
    pieces = _pieces(request, Part(media_type, content), etag)
    if pieces is None:
        return _stream(content, 200, media_type, headers)
    if not pieces:
        return _no_such_bytes(content)
    if len(pieces) > 1:
        return _in_parts(pieces, headers, "multipart/byteranges")
    headers["Content-Range"] = pieces[0].place
    return _stream(pieces[0].content, 206, media_type, headers)


def ranges_in_parts(request: Request, part: Part, etag: str) -> Response | None:
    """The same for who takes only multipart/related (PS3.18 8.4.3); None where no range is asked for."""
    pieces = _pieces(request, part, etag)
    if pieces is None:
        return None
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Vary": "Accept"}
    kind = part.media_type.partition(";")[0]
    whole = part.content
    return (
        _in_parts(pieces, headers, f'multipart/related; type="{kind}"') if pieces else _no_such_bytes(whole)
    )


def _pieces(request: Request, part: Part, etag: str) -> list[Part] | None:
    """A part for each range that is asked for; None where that is the whole."""
    if request.headers.get("if-range", etag) != etag:
        return None
    whole = length_of(part.content)
    ranges = wanted_ranges(request.headers.get("range", ""), whole)
    if ranges is None:
        return None
    return [
        replace(part, content=_cut(part.content, *each), place=f"bytes {each[0]}-{sum(each) - 1}/{whole}")
        for each in ranges
    ]


def _cut(content: Content, first: int, length: int) -> Content:
    return content[first : first + length] if isinstance(content, bytes) else content.cut(first, length)


def _no_such_bytes(content: Content) -> Response:
    return Response(status_code=416, headers={"Content-Range": f"bytes */{length_of(content)}"})


def _in_parts(pieces: Sequence[Part], headers: dict[str, str], kind: str) -> Response:
    boundary = uuid4().hex
    headers["Content-Length"] = str(_size(pieces))
    return StreamingResponse(_joined(_body(boundary, pieces)), 206, headers, f"{kind}; boundary={boundary}")


def _stream(content: Content, status: int, media_type: str, headers: dict[str, str]) -> Response:
    if isinstance(content, bytes):
        return Response(content, status, headers, media_type)
    headers["Content-Length"] = str(content.length)
    return StreamingResponse(content.chunks(), status, headers, media_type)


def length_of(content: Content) -> int:
    """How many bytes it has."""
    return len(content) if isinstance(content, bytes) else content.length


def etag_of(*facts: object) -> str:
    """The same for the same bytes in the same form."""
    digest = hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()
    return f'"{digest[:32]}"'


def unmet_condition(request: Request, etag: str) -> Response | None:
    """412 where the client insists on other bytes, 304 where it has these already; None where they are given.

    (RFC 9110 13.1.1, 13.1.2, 13.2.2)
    """
    insisted, held = _tags(request, "if-match"), _tags(request, "if-none-match")
    if insisted and not {etag, "*"} & insisted:
        return Response(status_code=412)
    if {etag, "*"} & {tag.removeprefix("W/") for tag in held}:
        return Response(status_code=304, headers={"ETag": etag, "Vary": "Accept"})
    return None


def _tags(request: Request, header: str) -> set[str]:
    return {tag.strip() for tag in request.headers.get(header, "").split(",") if tag.strip()}
