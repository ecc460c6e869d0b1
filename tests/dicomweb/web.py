"""A DICOMweb server over a store of its own, on a free port, and bodies to send to it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
from pydicom import Dataset
from sqlalchemy import select

from dicomnode.dicomweb import stow
from dicomnode.dicomweb.app import Admission, WebSettings, create_app
from dicomnode.dicomweb.server import WebServer
from dicomnode.model.limits import InstanceLimits
from dicomnode.services.ingest import Ingest
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from dicomnode.store.schema import instance
from tests.harness.schema import upgraded

PATH = "/dicom-web"
SETTINGS = WebSettings(PATH, (Admission("MODALITY", ip_network("127.0.0.0/8")),))
BOUNDARY = "part.of-the/body"


@dataclass
class Web:
    """A running server, and what is behind it."""

    server: WebServer
    database: Database
    folder: Path
    ingest: Ingest

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}{PATH}"

    def store(self, body: bytes | Iterable[bytes], study: str = "", **headers: str) -> httpx.Response:
        """One STOW request; the headers' names with _ for -."""
        sent = {"Content-Type": related(), "Accept": "application/dicom+json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url}/studies/{study}" if study else f"{self.url}/studies"
        return httpx.post(url, content=body, headers=sent, timeout=30)

    def raw(self, request: bytes, limit_s: float = 10) -> bytes:
        """What is answered to these bytes until the connection ends, or nothing comes any more."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=limit_s) as connection:
            connection.sendall(request)
            answer = b""
            try:
                while chunk := connection.recv(65_536):
                    answer += chunk
            except (TimeoutError, ConnectionResetError):
                pass
            return answer

    def stored(self) -> set[str]:
        """The SOPInstanceUIDs in the catalog."""
        with self.database.read() as tx:
            return set(tx.execute(select(instance.c.SOPInstanceUID)).scalars())

    def files(self) -> list[Path]:
        """Every object and every file that was left on the way to one."""
        return [
            path for name in ("objects", "tmp") for path in (self.folder / name).rglob("*") if path.is_file()
        ]


@contextmanager
def serving(
    folder: Path,
    minimum_free: int = 0,
    url: str = "",
    limits: InstanceLimits | None = None,
    **settings: object,
) -> Iterator[Web]:
    """Serve STOW over a store in `folder`; `url` is that of an empty database."""
    database = upgraded(url or f"sqlite:///{folder / 'd.sqlite3'}")
    ingest = Ingest(database, ObjectStore(folder, minimum_free), limits)
    app = create_app(replace(SETTINGS, **settings), stow.routes(ingest, "NODE"))
    server = WebServer(app, "127.0.0.1", 0)
    server.start()
    try:
        yield Web(server, database, folder, ingest)
    finally:
        server.stop(1)
        database.close()


def part10(ds: Dataset) -> bytes:
    """The data set as a DICOM file."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def related(root: str = "application/dicom") -> str:
    """The Content-Type of a request."""
    return f'multipart/related; type="{root}"; boundary="{BOUNDARY}"'


def multipart(*parts: bytes | tuple[str, bytes]) -> bytes:
    """A body; a part is an instance, or its headers with its bytes."""
    delimiter = b"--" + BOUNDARY.encode()
    pieces = []
    for each in parts:
        headers, content = each if isinstance(each, tuple) else ("Content-Type: application/dicom", each)
        pieces += [delimiter, b"\r\n", headers.encode(), b"\r\n\r\n", content, b"\r\n"]
    return b"".join([*pieces, delimiter, b"--\r\n"])


def references(answer: httpx.Response, keyword: str) -> list[dict[str, Any]]:
    """The items of one sequence of a response: plain values by tag."""
    tags = {
        "ReferencedSOPSequence": "00081199",
        "FailedSOPSequence": "00081198",
        "OtherFailuresSequence": "0008119A",
    }
    items = json.loads(answer.content).get(tags[keyword], {}).get("Value", [])
    return [{tag: content["Value"][0] for tag, content in item.items()} for item in items]
