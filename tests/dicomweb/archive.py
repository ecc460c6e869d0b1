"""A DICOMweb server over a catalog of the test's own, in this process, on a free port."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from ipaddress import ip_network
from pathlib import Path

import httpx
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from dicomnode.dicomweb.app import Admission, WebSettings, create_app
from dicomnode.dicomweb.server import WebServer
from dicomnode.model.instance import AssociationFacts, Received
from dicomnode.services.ingest import Ingest
from dicomnode.services.reading import reading_routes
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from tests.harness.schema import upgraded

BASE = "/dicom-web"
_SETTINGS = WebSettings(BASE, (Admission("*", ip_network("127.0.0.0/8")),))


@dataclass(frozen=True, slots=True)
class Archive:
    """What is stored, and where it is answered from."""

    database: Database
    objects: ObjectStore
    url: str

    def store(self, *datasets: Dataset) -> None:
        """Take instances in as a C-STORE would."""
        ingest = Ingest(self.database, self.objects)
        for ds in datasets:
            ingest.store(received(ds))

    @property
    def client(self) -> DICOMwebClient:
        """Somebody else's client."""
        return DICOMwebClient(self.url)

    def get(self, path: str, accept: str | None = None, **headers: str) -> httpx.Response:
        """A plain request, as curl makes it."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(self.url + path, headers=named | ({"Accept": accept} if accept else {}), timeout=60)


def received(ds: Dataset) -> Received:
    """The data set as it comes over the wire in its own transfer syntax."""
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    file = buffer.getvalue()
    head = 144 + int.from_bytes(file[140:144], "little")
    facts = AssociationFacts("test", "CT1", "NODE", "127.0.0.1")
    syntax = ds.file_meta.TransferSyntaxUID
    return Received(facts, ds.SOPClassUID, ds.SOPInstanceUID, syntax, file[head:])


@contextmanager
def serving(url: str, folder: Path, datasets: Sequence[Dataset] = ()) -> Iterator[Archive]:
    """An archive with these instances while the block runs; `url` is that of an empty database."""
    database, objects = upgraded(url), ObjectStore(folder, 0)
    server = WebServer(create_app(_SETTINGS, reading_routes(database, objects)), "127.0.0.1", 0)
    server.start()
    archive = Archive(database, objects, f"http://127.0.0.1:{server.port}{BASE}")
    try:
        archive.store(*datasets)
        yield archive
    finally:
        server.stop(5)
        database.close()
