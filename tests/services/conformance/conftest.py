"""A running node with all its peers played by one, and what it states of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, send_files
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.services.conformance.observer import Observer
from tests.services.conformance.stated import Stated

SETTINGS = """
[[destination]]
name = "archive"
dimse = {{ ae_title = "ARCHIVE", host = "127.0.0.1", port = {port} }}
[[destination]]
name = "vault"
dimse = {{ ae_title = "VAULT", host = "127.0.0.1", port = {port} }}
confirm = "commitment"
[[peer]]
ae_title = "PEER"
host = "127.0.0.1"
port = {port}
[[peer]]
ae_title = "VIEWER"
host = "127.0.0.1"
port = {port}
[[route]]
name = "all"
when = 'series.modality == "MR" || series.modality == "CT"'
pipeline = "toy"
send_to = ["archive", "vault"]
"""
ANNOUNCE = """[delivery]
announce_to = ["PEER"]
report_wait_s = 0.2"""


@dataclass(frozen=True)
class Running:
    """`series` has been sent to the node, `alone` is a study of its own; `late` has not been sent yet."""

    node: RunningNode
    stated: Stated
    observer: Observer
    series: list[Path]
    late: Path
    alone: Path


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A node with a pipeline that sends to one application entity, under all its names."""
    folder = tmp_path_factory.mktemp("stated")
    write_toy_pipeline(folder / "pipelines")
    with closing(Observer()) as observer:
        routes = SETTINGS.format(port=observer.port)
        node = RunningNode(folder / "node", pipelines=folder / "pipelines", routes=routes)
        node.config.write_text(node.config.read_text().replace("[delivery]", ANNOUNCE))
        try:
            observer.node = node.start().peer
            stated = Stated(json.loads(node.run("conformance", "--format", "json").stdout))
            *series, late = write_series(folder / "mr", small_series())
            (alone,) = write_series(folder / "alone", small_series(1, Modality="OT"))
            send_files(node.peer, [*series, alone])
            yield Running(node, stated, observer, series, late, alone)
        finally:
            node.kill()
