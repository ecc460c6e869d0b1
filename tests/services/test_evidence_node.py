"""A whole node between a lossy sender and an archive; it is killed while it fetches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from dicomnode.model.peer import Peer
from tests.faults.books import stored_digest
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, kill_at, send_files, wait_for
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.peers import free_port, orthanc

SLICES = 42


def node_beside(folder: Path, pipelines: Path, peer: Peer, environment: dict[str, str]) -> RunningNode:
    routes = f"""
[[peer]]
ae_title = "{peer.ae_title}"
host = "{peer.host}"
port = {peer.port}
[[route]]
name = "toy"
when = 'series.modality == "MR" && association.calling_ae == "LOSSY"'
pipeline = "toy"
"""
    settings = {"DICOMNODE_COMPLETION_ASK": peer.ae_title, "DICOMNODE_COMPLETION_ASK_LIMIT_S": "20.0"}
    # A scanner that has to wait for the machine must not be taken for one that has ended: quiet_s.
    return RunningNode(
        folder, pipelines=pipelines, routes=routes, quiet_s=1.5, environment=settings | environment
    )


@pytest.fixture
def pipelines(tmp_path: Path) -> Path:
    write_toy_pipeline(tmp_path / "pipelines")
    return tmp_path / "pipelines"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "series", small_series(SLICES))


@pytest.fixture(scope="module")
def second_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A second dicomnode, without pipelines."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "none").mkdir()
    node = RunningNode(folder, pipelines=folder / "none", ae_title="ARCHIVE").start()
    yield node
    node.kill()


@pytest.fixture
def archive(second_node: RunningNode, files: list[Path]) -> RunningNode:
    """It has the whole series."""
    send_all(second_node.peer, files)
    return second_node


def send_all(peer: Peer, files: list[Path], calling_ae: str = "SCANNER") -> None:
    """As a scanner does: again, until every instance was acknowledged."""
    wait_for("all acknowledged", lambda: not any(send_files(peer, files, calling_ae).values()))


def send_lossily(node: RunningNode, files: list[Path]) -> None:
    """Every seventh slice is lost."""
    sent = [file for number, file in enumerate(files, start=1) if number % 7]
    send_all(node.peer, sent, "LOSSY")


def the_series(node: RunningNode) -> dict:
    (study,) = node.status()["list"]
    (series,) = study["series"]
    return series


def has_its_job(node: RunningNode) -> bool:
    return len(the_series(node)["jobs"]) == 1


def is_done(node: RunningNode) -> bool:
    return [job["state"] for job in the_series(node)["jobs"]] == ["done"]


def check_whole(node: RunningNode, files: list[Path], name: str, fetched: int = 6) -> None:
    """One generation, one job, over every slice as it was sent."""
    series = the_series(node)
    (completion,) = series["completions"]
    assert completion["reason"] == "listed"
    assert completion["note"] == f"{name} lists these {SLICES} instances, {fetched} of which were fetched"
    assert series["instance_count"] == SLICES == len({pydicom.dcmread(f).SOPInstanceUID for f in files})
    for file in files:
        digest = stored_digest(file)
        assert list((node.folder / "data" / "objects").rglob(f"*{digest}*")), file


def test_a_job_runs_once_on_the_whole_series_although_every_seventh_slice_was_lost(
    archive, tmp_path, pipelines, files
):
    node = node_beside(tmp_path / "node", pipelines, archive.peer, {}).start()
    try:
        send_lossily(node, files)
        wait_for("the job", lambda: is_done(node), 90)
        check_whole(node, files, "ARCHIVE")
        shown = " ".join(node.run("status").stdout.split())
        assert "ARCHIVE lists these 42 instances, 6 of which were fetched" in shown
    finally:
        node.kill()


POINTS = (
    "dicomnode.services.evidence_source:get:before:1",
    "dicomnode.dimse.fetch:storage:after:1",
    "dicomnode.services.evidence_source:get:after:1",
    "dicomnode.store.inquiries:settle:after:1",
    "dicomnode.store.completions:complete_listed:after:1",
)
PATIENT = {"DICOMNODE_COMPLETION_ASK_LIMIT_S": "600.0"}
"""Several lives of a node pass before an archive is given up."""


def test_a_node_that_is_killed_while_it_fetches_goes_on_where_it_was(archive, tmp_path, pipelines, files):
    def life(**environment: str) -> RunningNode:
        return node_beside(tmp_path / "node", pipelines, archive.peer, PATIENT | environment)

    first, *others = POINTS
    kill_at(first, life, lambda node: send_lossily(node, files))
    for point in others:
        kill_at(point, life)
    node = life().start()
    try:
        wait_for("the job", lambda: has_its_job(node), 90)
        check_whole(node, files, "ARCHIVE")
    finally:
        node.kill()


def test_a_node_that_is_killed_between_two_fetched_instances_fetches_the_others(
    archive, tmp_path, pipelines, files
):
    def life(**environment: str) -> RunningNode:
        return node_beside(tmp_path / "node", pipelines, archive.peer, environment)

    point = "dicomnode.services.ingest:Ingest.store:after:20"
    kill_at(point, life, lambda node: send_all(node.peer, files[:2], "LOSSY"))
    node = life()
    assert the_series(node)["instance_count"] == 22
    node.start()
    try:
        wait_for("the job", lambda: has_its_job(node), 90)
        check_whole(node, files, "ARCHIVE", fetched=40)
    finally:
        node.kill()


def test_an_orthanc_fills_the_gaps(tmp_path, pipelines, files):
    with orthanc(tmp_path / "orthanc", DicomAlwaysAllowGet=True) as peer:
        send_all(peer, files)
        node = node_beside(tmp_path / "node", pipelines, peer, {}).start()
        try:
            send_lossily(node, files)
            wait_for("the job", lambda: has_its_job(node), 90)
            check_whole(node, files, "ORTHANC")
        finally:
            node.kill()


def test_an_archive_that_is_down_delays_the_series_and_loses_nothing(tmp_path, pipelines, files):
    nobody = Peer("NOBODY", "127.0.0.1", free_port())
    limit = {"DICOMNODE_COMPLETION_ASK_LIMIT_S": "2.0"}
    node = node_beside(tmp_path / "node", pipelines, nobody, limit).start()
    try:
        send_lossily(node, files)
        wait_for("the completion", lambda: the_series(node)["completions"], 60)
        (completion,) = the_series(node)["completions"]
        assert (completion["reason"], completion["instance_count"]) == ("quiet", SLICES - 6)
        assert completion["note"].startswith("NOBODY could not be asked")
    finally:
        node.kill()
