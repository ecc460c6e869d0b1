"""One origin for the viewer's pages and for the DICOMweb that they ask: a small server on the loopback."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dicomnode.demo.servers import LOCALHOST
from dicomnode.demo.viewer.ohif import DICOMWEB

_CHUNK = 1 << 16
_TIMEOUT_S = 120.0
_PASSED_ON = ("Accept", "Accept-Encoding", "Host")
"""With the viewer's own host, the URLs in answers are of the one origin too."""
_PASSED_BACK = ("Content-Type", "Content-Encoding", "Content-Length")


@contextmanager
def serving_viewer(pages: Path, config: str, dicomweb_port: int, port: int = 0) -> Iterator[str]:
    """Serve the pages, with `config` as their app-config.js, while the block runs; gives the URL."""
    handler = partial(_Handler, config=config.encode(), dicomweb_port=dicomweb_port, directory=str(pages))
    server = ThreadingHTTPServer((LOCALHOST, port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="viewer", daemon=True)
    thread.start()
    try:
        yield f"http://{LOCALHOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, config: bytes, dicomweb_port: int, **named: Any) -> None:
        self._config, self._dicomweb_port = config, dicomweb_port
        super().__init__(*arguments, **named)

    def do_GET(self) -> None:
        """A page, the settings, or what DICOMweb answers."""
        path = self.path.partition("?")[0]
        if path.startswith(f"{DICOMWEB}/"):
            self._ask_dicomweb()
        elif path == "/app-config.js":
            self._answer(self._config, "text/javascript")
        else:
            # Every other path is one of the viewer's own routes, which its first page resolves.
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def end_headers(self) -> None:
        """What a browser demands before it lets threads share memory."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  the library's name
        """Nothing: the browser has its own list of requests."""

    def _answer(self, body: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _ask_dicomweb(self) -> None:
        connection = http.client.HTTPConnection(LOCALHOST, self._dicomweb_port, timeout=_TIMEOUT_S)
        try:
            asked = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
            connection.request("GET", self.path, headers=asked)
            answer = connection.getresponse()
            self._pass_back(answer)
        except OSError:
            self.close_connection = True
        finally:
            connection.close()

    def _pass_back(self, answer: http.client.HTTPResponse) -> None:
        """As it stands, compressed or not. Without a length, the end of the connection is the end."""
        self.send_response(answer.status)
        for name in _PASSED_BACK:
            if (value := answer.getheader(name)) is not None:
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        while chunk := answer.read(_CHUNK):
            self.wfile.write(chunk)
