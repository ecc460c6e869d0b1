"""A whole node takes in what real peers send by STOW-RS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import peers
from tests.dicomweb.web import multipart, part10, related
from tests.harness.heads import small_series
from tests.harness.nodes import RunningNode, wait_for


@pytest.fixture
def node(tmp_path) -> Iterator[RunningNode]:
    (tmp_path / "pipelines").mkdir()
    node = RunningNode(tmp_path / "node", pipelines=tmp_path / "pipelines").start()
    yield node
    node.kill()


def test_orthanc_sends_a_series_by_stow(node: RunningNode, tmp_path: Path):
    port = peers.free_port()
    with peers.orthanc(tmp_path / "orthanc", **peers.orthanc_dicomweb(node.web_url, port)):
        url = f"http://127.0.0.1:{port}"
        for ds in small_series(5):
            series = httpx.post(f"{url}/instances", content=part10(ds), timeout=30).json()["ParentSeries"]
        sent = httpx.post(
            f"{url}/dicom-web/servers/node/stow",
            json={"Resources": [series], "Synchronous": True},
            timeout=60,
        )
    assert sent.status_code == 200, sent.text
    assert node.status()["instances"] == 5


def test_a_series_that_came_by_stow_becomes_complete_and_a_stop_is_in_order(node: RunningNode):
    body = multipart(*map(part10, small_series(3)))
    answer = httpx.post(
        f"{node.web_url}/studies", content=body, headers={"Content-Type": related()}, timeout=30
    )
    assert answer.status_code == 200
    wait_for(
        "the series to be complete", lambda: [e for e in node.events() if e.get("event") == "series.complete"]
    )
    assert node.stop() == 0
    assert any(event.get("event") == "web.stopped" for event in node.events())


def test_a_failing_disk_ends_the_web_role_and_the_node_starts_it_again_when_it_is_verified(tmp_path):
    (tmp_path / "pipelines").mkdir()
    fault = tmp_path / "fault"
    fault.mkdir()
    (fault / "sitecustomize.py").write_text(
        "import os, pathlib\n"
        "mark, sync = pathlib.Path(__file__).with_name('once'), os.fdatasync\n"
        "def fdatasync(descriptor):\n"
        "    if mark.exists():\n"
        "        mark.unlink()\n"
        "        raise OSError(5, 'Input/output error')\n"
        "    sync(descriptor)\n"
        "os.fdatasync = fdatasync\n"
    )
    node = RunningNode(
        tmp_path / "node", pipelines=tmp_path / "pipelines", environment={"PYTHONPATH": str(fault)}
    ).start()
    try:
        (fault / "once").touch()
        body = multipart(part10(small_series(1)[0]))
        headers = {"Content-Type": related()}
        assert (
            httpx.post(f"{node.web_url}/studies", content=body, headers=headers, timeout=30).status_code
            == 503
        )
        again = wait_for(
            "the node to start again",
            lambda: [e for e in node.events() if e.get("event") == "web.listening"][1:],
        )
        url = f"http://127.0.0.1:{again[0]['port']}/dicom-web/studies"
        assert httpx.post(url, content=body, headers=headers, timeout=30).status_code == 200
    finally:
        node.kill()
