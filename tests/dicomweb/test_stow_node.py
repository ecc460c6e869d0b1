"""Several web processes on one port of a whole node: what any of them answers as stored is there."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.dicomweb.web import multipart, part10, related
from tests.harness.heads import small_series
from tests.harness.nodes import RunningNode, wait_for
from tests.harness.toy_pipeline import write_toy_pipeline

SENDERS, SERIES, SLICES = 8, 6, 10
HEADERS = {"Content-Type": related(), "Accept": "application/dicom+json"}


@pytest.fixture
def node(database_url: str, tmp_path: Path) -> Iterator[RunningNode]:
    write_toy_pipeline(tmp_path / "pipelines")
    environment = {"DICOMNODE_DATABASE_URL": database_url}
    node = RunningNode(tmp_path / "node", pipelines=tmp_path / "pipelines", environment=environment)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = node.config.read_text()
    node.config.write_text(config.replace("[web]\nport = 0", f"[web]\nport = {port}\nprocesses = 2"))
    node.start()
    try:
        wait_for("both web processes", lambda: listening(node) == 2)
        yield node
    finally:
        node.kill()


def listening(node: RunningNode) -> int:
    """How many web processes have begun to listen so far."""
    return sum(each.get("event") == "web.listening" for each in node.events())


def pid_of(node: RunningNode, process: str) -> int:
    started = (each for each in node.events() if each.get("event") == "process.started")
    return next(int(each["pid"]) for each in started if each["process"] == process)


def study_of() -> list[Dataset]:
    study, datasets = str(generate_uid(prefix=None)), []
    for _ in range(SERIES):
        datasets += small_series(SLICES, StudyInstanceUID=study, SeriesInstanceUID=generate_uid(prefix=None))
    return datasets


def store_until_taken(url: str, body: bytes) -> int:
    """As a client should: again where nobody answers. How many times it was sent."""
    for attempt in range(1, 100):
        try:
            answer = httpx.post(f"{url}/studies", content=body, headers=HEADERS, timeout=60)
        except httpx.TransportError:
            continue
        if answer.status_code == 200:
            assert len(json.loads(answer.content)["00081199"]["Value"]) == 1
            return attempt
        assert answer.status_code == 503, answer.text
    raise AssertionError("nobody takes it")


def test_what_two_processes_are_sent_at_once_is_all_there_also_when_one_is_killed(node: RunningNode):
    datasets = study_of()
    study = str(datasets[0].StudyInstanceUID)
    with ThreadPoolExecutor(SENDERS) as senders:
        # Each of them is sent twice, so that the same instance comes by both processes at once.
        sent = [
            senders.submit(store_until_taken, node.web_url, multipart(part10(ds)))
            for ds in datasets
            for _ in range(2)
        ]
        wait_for("the first answers", lambda: sum(each.done() for each in sent) > SENDERS)
        os.kill(pid_of(node, "web-2"), signal.SIGKILL)
        assert all(each.result() for each in sent)
    wait_for("the process that takes its place", lambda: listening(node) == 3)

    found = httpx.get(f"{node.web_url}/studies/{study}/instances", timeout=60).json()
    assert sorted(each["00080018"]["Value"][0] for each in found) == sorted(
        ds.SOPInstanceUID for ds in datasets
    )
    counts = httpx.get(f"{node.web_url}/studies/{study}/series", timeout=60).json()
    assert [each["00201209"]["Value"] for each in counts] == [[SLICES]] * SERIES
    for ds in datasets[::SLICES]:
        place = f"{node.web_url}/studies/{study}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
        kept = httpx.get(place, headers={"Accept": "application/dicom"}, timeout=60).content
        assert kept.endswith(ds.PixelData)
