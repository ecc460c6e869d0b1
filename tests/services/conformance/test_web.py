"""Each DICOMweb resource of the conformance statement is served, and nothing else under its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from websockets.sync.client import connect

from dicomnode.model.workitem import WORKLIST_UID
from tests.dicomweb.test_documents import pdf, report
from tests.dicomweb.web import multipart, part10, related
from tests.harness.nodes import wait_for
from tests.services.conformance.conftest import Running
from tests.services.conformance.stated import Row

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BY_WEBSOCKET = "OpenNotificationConnection"


@pytest.fixture(scope="module")
def places(running: Running) -> dict[str, str]:
    """What stands for the parameters of a path: of an instance that is here, and of a work item."""
    ds = dcmread(running.alone)

    def listed() -> list[dict[str, Any]]:
        answer = httpx.get(f"{running.node.web_url}/workitems", timeout=60)
        return answer.json() if answer.status_code == 200 else []

    item = wait_for("a work item", listed)[0]
    return {
        "study": ds.StudyInstanceUID,
        "series": ds.SeriesInstanceUID,
        "instance": ds.SOPInstanceUID,
        "frames": "1",
        "way": "7FE00010",
        "workitem": item["00080018"]["Value"][0],
        "ae": "WATCHER",
    }


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.node.web_url, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def documents(places: dict[str, str], client: httpx.Client) -> dict[str, dict[str, str]]:
    """What stands for the parameters of a path where the media type is that of a document."""
    stored = {"text/html": report(), "text/plain": report(), "application/pdf": pdf()}
    body = multipart(part10(stored["text/html"]), part10(stored["application/pdf"]))
    sent = client.post("/studies", content=body, headers={"Content-Type": related()})
    assert sent.status_code == 200, sent.text
    return {
        media_type: {
            **places,
            "study": ds.StudyInstanceUID,
            "series": ds.SeriesInstanceUID,
            "instance": ds.SOPInstanceUID,
        }
        for media_type, ds in stored.items()
    }


def resources(running: Running) -> Iterator[Row]:
    return iter(running.stated.rows_of("Resources of "))


def query(row: Row, places: dict[str, str]) -> dict[str, str]:
    """What WADO-URI cannot do without."""
    if "objectUID" not in row["Parameters"]:
        return {}
    named = {"studyUID": places["study"], "seriesUID": places["series"], "objectUID": places["instance"]}
    return {"requestType": "WADO", **named}


def ask(
    client: httpx.Client, row: Row, places: dict[str, str], content: bytes = b"", **headers: str
) -> httpx.Response:
    path = row["Path"].format_map(places)
    if row["Transaction"] == "SuspendGlobalSubscription":
        path = path.replace(places["workitem"], WORKLIST_UID)
    if row["Transaction"] in ("SuspendGlobalSubscription", "DeleteSubscription"):
        client.post(path.removesuffix("/suspend"))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(row["Method"], path, params=query(row, places), content=content, headers=named)


def test_every_resource_that_is_stated_is_served(running, places, client):
    rows = [row for row in resources(running) if row["Transaction"] != BY_WEBSOCKET]
    assert len(rows) > 30
    for row in rows:
        answer = ask(client, row, places)
        stated = {int(text[:3]) for text in [*row["Success"], *row["Failure"]]}
        assert answer.status_code in stated - {404}, (row["Method"], row["Path"], answer.text)
        if row["Method"] == "GET":
            assert answer.status_code == 200, row["Path"]


def test_every_media_type_that_is_stated_is_given(running, places, documents, client):
    for row in resources(running):
        if row["Method"] != "GET" or row["Gives"] == ["nothing"]:
            continue
        for media_type in row["Gives"]:
            answer = ask(client, row, documents.get(media_type, places), Accept=media_type)
            assert answer.status_code == 200, (row["Path"], media_type, answer.text)
            given = answer.headers["Content-Type"]
            assert media_type.replace(" ", "") in given.replace(" ", ""), row["Path"]


def test_every_media_type_that_is_stated_is_taken(running, places, client):
    for row in resources(running):
        for media_type in () if row["Takes"] == ["nothing"] else row["Takes"]:
            boundary = "; boundary=part" if media_type.startswith("multipart") else ""
            answer = ask(client, row, places, Content_Type=f"{media_type}{boundary}")
            assert answer.status_code not in (404, 405, 415), (row["Path"], media_type)
        if row["Takes"] != ["nothing"]:
            answer = ask(client, row, places, content=b"{}", Content_Type="text/plain")
            assert answer.status_code == 415, row["Path"]


def test_the_notifications_that_are_stated_come_by_websocket(running, places):
    (row,) = [row for row in resources(running) if row["Transaction"] == BY_WEBSOCKET]
    url = f"{running.node.web_url}{row['Path'].format_map(places)}".replace("http", "ws", 1)
    with connect(url, open_timeout=60) as socket:
        assert socket.response.status_code == 101


def test_no_other_method_is_served_on_a_stated_path_and_no_other_path(running, places, client):
    methods: dict[str, set[str]] = {}
    for row in resources(running):
        methods.setdefault(row["Path"], set()).add(row["Method"])
    for path, stated in methods.items():
        for method in METHODS:
            if method not in stated:
                answer = client.request(method, path.format_map(places))
                assert answer.status_code in (404, 405), (method, path)
    for path in ("/patients", "/studies/1.2/reports", "/metadata"):
        assert client.get(path).status_code == 404
