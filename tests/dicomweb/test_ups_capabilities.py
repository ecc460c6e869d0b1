"""What the node tells of its services is what it serves (PS3.18 8.9, H)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from starlette.routing import Route

from dicomnode.config import Config
from dicomnode.dicomweb.app import Admission, WebSettings, create_app
from dicomnode.dicomweb.capabilities import described, served_by
from dicomnode.dicomweb.server import WebServer
from dicomnode.dicomweb.transactions import TRANSACTIONS
from dicomnode.installation import Stores
from dicomnode.roles.web import web_routes
from dicomnode.store.objects import ObjectStore
from tests.harness.schema import upgraded
from tests.harness.toy_pipeline import write_toy_pipeline

WADL = "{http://wadl.dev.java.net/2009/02}"


@pytest.fixture(scope="module")
def routes(tmp_path_factory) -> list:
    folder = tmp_path_factory.mktemp("node")
    write_toy_pipeline(folder / "pipelines")
    config = Config.model_validate({"pipelines": {"folder": folder / "pipelines"}})
    database = upgraded(f"sqlite:///{folder / 'd.sqlite3'}")
    return web_routes(config, Stores(database, ObjectStore(Path(folder), 0)))


@pytest.fixture(scope="module")
def url(routes) -> Iterator[str]:
    settings = WebSettings("/dicom-web", (Admission("*", ip_network("127.0.0.0/8")),))
    server = WebServer(create_app(settings, routes), "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/dicom-web"
    server.stop(5)


@pytest.fixture(scope="module")
def document(url) -> dict:
    return httpx.get(f"{url}/openapi.json", timeout=60).json()


def test_the_openapi_document_has_each_route_of_the_node_and_no_other(routes, document):
    served = {key for route in routes for key in served_by(route)}
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == served == set(TRANSACTIONS)


def test_each_operation_has_a_name_of_its_own_and_all_parameters_of_its_path(document):
    operations = [
        (path, operation) for path, methods in document["paths"].items() for operation in methods.values()
    ]
    names = [operation["operationId"] for _, operation in operations]
    assert len(set(names)) == len(names)
    for path, operation in operations:
        in_path = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert [f"{{{name}}}" in path for name in in_path] == [True] * path.count("{")


def test_a_route_that_nobody_described_cannot_be_served():
    with pytest.raises(KeyError):
        described([Route("/secret", lambda _: None)], "1")


def test_capabilities_are_a_wadl_document_with_the_same_resources(url):
    answer = httpx.options(f"{url}/", timeout=60)
    assert answer.headers["Content-Type"].startswith("application/vnd.sun.wadl+xml")
    root = ElementTree.fromstring(answer.content)  # noqa: S314  of our own node
    (resources,) = root.findall(f"{WADL}resources")
    assert resources.get("base") == url
    told = {
        (method.get("name"), f"/{resource.get('path')}")
        for resource in resources.findall(f"{WADL}resource")
        for method in resource.findall(f"{WADL}method")
    }
    assert told == set(TRANSACTIONS)


def test_capabilities_come_as_openapi_to_who_takes_json_and_not_as_pictures(url, document):
    answer = httpx.options(f"{url}/", headers={"Accept": "application/json"}, timeout=60)
    assert answer.json() == document
    assert httpx.options(f"{url}/", headers={"Accept": "image/png"}, timeout=60).status_code == 406
