"""What is retrieved, as HTTP carries it: parts, byte ranges, entity tags (PS3.18 8.6, RFC 9110)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

_CHUNK = 1 << 20
_SMALL = 1 << 18
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class FileSlice:
    """`length` bytes of a file from `start` on."""

    path: Path
    start: int
    length: int

    def cut(self, first: int, length: int) -> FileSlice:
        """The part that begins `first` bytes further on."""
        return FileSlice(self.path, self.start + first, length)

    def chunks(self) -> Iterator[bytes]:
        """The bytes, a little at a time."""
        left = self.length
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk


Content = FileSlice | bytes


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body; `location` is its own URL."""

    media_type: str
    content: Content
    location: str = ""


def multipart(kind: str, parts: Iterable[Part], size: int | None, etag: str) -> StreamingResponse:
    """multipart/related; `kind` is the type of its parts, `size` that of their contents where it is known."""
    boundary = uuid4().hex
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
    heads = sum(len(_head("0" * 32, part)) + 2 for part in parts)
    size = heads + sum(length_of(part.content) for part in parts) + len(_end("0" * 32))
    return multipart(kind, parts, size, etag)


def after(first: Part, others: Iterable[Part]) -> Iterator[Part]:
    """`first`, which was made before the answer began, then the others."""
    yield first
    yield from others


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
    return f"--{boundary}\r\nContent-Type: {part.media_type}\r\n{location}\r\n".encode()


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
    """One representation, or the bytes of it that a Range header asks for (RFC 9110 14)."""
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Vary": "Accept"}
    whole = length_of(content)
    wanted = _wanted_range(request, whole, etag)
    if wanted is None:
        return _stream(content, 200, media_type, headers)
    first, length = wanted
    if length <= 0:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{whole}"})
    headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{whole}"
    part = content[first : first + length] if isinstance(content, bytes) else content.cut(first, length)
    return _stream(part, 206, media_type, headers)


def _stream(content: Content, status: int, media_type: str, headers: dict[str, str]) -> Response:
    if isinstance(content, bytes):
        return Response(content, status, headers, media_type)
    headers["Content-Length"] = str(content.length)
    return StreamingResponse(content.chunks(), status, headers, media_type)


def _wanted_range(request: Request, whole: int, etag: str) -> tuple[int, int] | None:
    """First byte and length; no length where there are no such bytes; None for the whole."""
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or not any(found.groups()) or request.headers.get("if-range", etag) != etag:
        return None
    if not found[1]:
        length = min(int(found[2]), whole)
        return whole - length, length
    first = int(found[1])
    last = min(int(found[2]), whole - 1) if found[2] else whole - 1
    return first, last - first + 1


def length_of(content: Content) -> int:
    """How many bytes it has."""
    return len(content) if isinstance(content, bytes) else content.length


def etag_of(*facts: object) -> str:
    """The same for the same bytes in the same form."""
    digest = hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()
    return f'"{digest[:32]}"'


def not_modified(request: Request, etag: str) -> Response | None:
    """304 where the client has it already (RFC 9110 13.1.2); None where it has not."""
    held = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers={"ETag": etag}) if etag in held or "*" in held else None
