"""dicomweb-client drives the services by every method that it has for what the standard has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.dicomweb import stow
from dicomnode.dicomweb.app import create_app
from dicomnode.dicomweb.server import WebServer
from dicomnode.services.ingest import Ingest
from dicomnode.services.reading import reading_routes
from dicomnode.store.objects import ObjectStore
from tests.dicomweb.datasets import SERIES, STUDY, image, pixels, volume
from tests.dicomweb.web import PATH, SETTINGS, part10
from tests.harness.schema import upgraded

ONE, VOLUME = (STUDY, SERIES, f"{SERIES}.1"), (STUDY, "1.2.3.5", "1.2.3.5.1")
NOT_OF_THE_STANDARD = {"delete_study", "delete_series", "delete_instance"}
OF_THE_CLIENT_ALONE = {"lookup_keyword", "lookup_tag", "set_chunk_size", "set_http_retry_params"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DICOMwebClient]:
    folder = tmp_path_factory.mktemp("node")
    database, objects = upgraded(f"sqlite:///{folder / 'd.sqlite3'}"), ObjectStore(folder, 0)
    routes = [*stow.routes(Ingest(database, objects), "NODE"), *reading_routes(database, objects)]
    server = WebServer(create_app(SETTINGS, routes), "127.0.0.1", 0)
    server.start()
    client = DICOMwebClient(f"http://127.0.0.1:{server.port}{PATH}")
    files = [dcmread(BytesIO(part10(ds))) for ds in (image(1), image(2), volume())]
    assert len(client.store_instances(files).ReferencedSOPSequence) == 3
    yield client
    server.stop(1)
    database.close()


def uids(found: list[dict], tag: str) -> set[str]:
    return {each[tag]["Value"][0] for each in found}


def bulk_uri(client: DICOMwebClient) -> str:
    return client.retrieve_instance_metadata(*ONE)["7FE00010"]["BulkDataURI"]


def grey(picture: bytes) -> np.ndarray:
    with Image.open(BytesIO(picture)) as opened:
        return np.asarray(opened)


METHODS: dict[str, Callable[[DICOMwebClient], bool]] = {
    "store_instances": lambda c: (
        len(c.store_instances([dcmread(BytesIO(part10(image(1))))], STUDY).ReferencedSOPSequence) == 1
    ),
    "search_for_studies": lambda c: (
        uids(c.search_for_studies(search_filters={"PatientName": "doe^j*"}), "0020000D") == {STUDY}
    ),
    "search_for_series": lambda c: uids(c.search_for_series(STUDY), "0020000E") == {SERIES, "1.2.3.5"},
    "search_for_instances": lambda c: (
        len(uids(c.search_for_instances(STUDY, limit=1, get_remaining=True), "00080018")) == 3
    ),
    "retrieve_study": lambda c: len(c.retrieve_study(STUDY)) == 3,
    "iter_study": lambda c: len(list(c.iter_study(STUDY))) == 3,
    "retrieve_study_metadata": lambda c: len(c.retrieve_study_metadata(STUDY)) == 3,
    "retrieve_series": lambda c: len(c.retrieve_series(STUDY, SERIES)) == 2,
    "iter_series": lambda c: len(list(c.iter_series(STUDY, SERIES))) == 2,
    "retrieve_series_metadata": lambda c: len(c.retrieve_series_metadata(STUDY, SERIES)) == 2,
    "retrieve_series_rendered": lambda c: bool(
        c.retrieve_series_rendered(STUDY, SERIES, media_types=("image/png",))
    ),
    "retrieve_instance": lambda c: bool((c.retrieve_instance(*ONE).pixel_array == pixels(1)).all()),
    "retrieve_instance_metadata": lambda c: (
        Dataset.from_json(c.retrieve_instance_metadata(*ONE), lambda *_: b"").Rows == 12
    ),
    "retrieve_instance_frames": lambda c: c.retrieve_instance_frames(*VOLUME, [2]) == [pixels(2).tobytes()],
    "iter_instance_frames": lambda c: (
        list(c.iter_instance_frames(*VOLUME, [3, 1])) == [pixels(3).tobytes(), pixels(1).tobytes()]
    ),
    "retrieve_instance_rendered": lambda c: (
        grey(c.retrieve_instance_rendered(*ONE, media_types=("image/png",))).shape == (12, 16)
    ),
    "retrieve_instance_frames_rendered": lambda c: (
        grey(c.retrieve_instance_frames_rendered(*VOLUME, [2], media_types=("image/png",))).shape == (12, 16)
    ),
    "retrieve_bulkdata": lambda c: (
        c.retrieve_bulkdata(bulk_uri(c), byte_range=(0, 9)) == [pixels(1).tobytes()[:10]]
    ),
    "iter_bulkdata": lambda c: list(c.iter_bulkdata(bulk_uri(c))) == [pixels(1).tobytes()],
}


@pytest.mark.parametrize("name", METHODS)
def test_a_client_uses_each_method(client: DICOMwebClient, name: str):
    assert METHODS[name](client)


def test_these_are_all_that_it_has():
    public = {name for name, _ in inspect.getmembers(DICOMwebClient, inspect.isfunction) if name[0] != "_"}
    assert public == METHODS.keys() | NOT_OF_THE_STANDARD | OF_THE_CLIENT_ALONE
