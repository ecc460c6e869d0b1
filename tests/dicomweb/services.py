"""An archive with DICOMweb, and a token server: real HTTP on port 0, told by a test what to say."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pydicom

from dicomnode.dicomweb.client import http_client

Answer = tuple[int, Any]


@dataclass
class WebArchive:
    """Stores what it is sent, lists it, and asks for a token where `token_needed`."""

    stored: dict[str, bytes] = field(default_factory=dict)
    series: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, Message]] = field(default_factory=list)
    token_requests: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    token_needed: bool = False
    token_life_s: float = 3600.0
    page: int = 1000
    clients: list[httpx.Client] = field(default_factory=list)
    on_store: Callable[[str], Answer | None] = lambda _: None
    on_search: Callable[[], Answer | None] = lambda: None
    on_token: Callable[[], Answer | None] = lambda: None

    def __post_init__(self) -> None:
        archive = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/token":
                    self._answer(*archive.token(self.headers, body))
                else:
                    self._answer(*archive.authorised(self, lambda: archive.store(self.headers, body)))

            def do_GET(self) -> None:
                self._answer(*archive.authorised(self, lambda: archive.search(self.path)))

            def _answer(self, status: int, answer: Any) -> None:
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                raw = b"" if answer is None else raw
                self.send_response(status)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.origin}/dicom-web"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def client(self, response_timeout_s: float = 20.0) -> httpx.Client:
        """As the node makes one; closed with the archive."""
        self.clients.append(http_client(5.0, response_timeout_s))
        return self.clients[-1]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self._server.shutdown()
        self._server.server_close()

    def authorised(self, request: BaseHTTPRequestHandler, answer: Callable[[], Answer]) -> Answer:
        self.requests.append((request.command, request.path, request.headers))
        said = request.headers.get("Authorization", "")
        if self.token_needed and said.removeprefix("Bearer ") not in self.tokens:
            return 401, None
        return answer()

    def token(self, headers: Message, body: bytes) -> Answer:
        said = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
        client, secret = map(unquote, said.split(":"))
        self.token_requests.append((client, secret, parse_qs(body.decode())))
        if (answer := self.on_token()) is not None:
            return answer
        token = f"token-{len(self.token_requests)}"
        self.tokens.add(token)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.token_life_s}

    def store(self, headers: Message, body: bytes) -> Answer:
        boundary = headers.get_param("boundary")
        assert headers.get_content_type() == "multipart/related"
        assert headers.get_param("type") == "application/dicom"
        head, raw = body.removesuffix(f"\r\n--{boundary}--\r\n".encode()).split(b"\r\n\r\n", 1)
        assert head == f"--{boundary}\r\nContent-Type: application/dicom".encode()
        ds = pydicom.dcmread(BytesIO(raw), stop_before_pixels=True)
        if (answer := self.on_store(ds.SOPInstanceUID)) is not None:
            return answer
        self.stored[ds.SOPInstanceUID] = raw
        self.series[ds.SOPInstanceUID] = ds.SeriesInstanceUID
        return 200, {"00081199": sequence(ds.SOPInstanceUID)}

    def search(self, path: str) -> Answer:
        if (answer := self.on_search()) is not None:
            return answer
        parts = urlsplit(path)
        asked = parse_qs(parts.query)
        series = parts.path.split("/")[-2]
        listed = [uid for uid, of_series in sorted(self.series.items()) if of_series == series]
        offset = int(asked["offset"][0])
        listed = listed[offset : offset + min(self.page, int(asked["limit"][0]))]
        if not listed:
            return 204, None
        return 200, [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in listed]


def sequence(SOPInstanceUID: str, reason: int | None = None) -> dict[str, Any]:
    """One item of a Referenced or Failed SOP Sequence."""
    item = {"00081155": {"vr": "UI", "Value": [SOPInstanceUID]}}
    if reason is not None:
        item["00081197"] = {"vr": "US", "Value": [reason]}
    return {"vr": "SQ", "Value": [item]}
