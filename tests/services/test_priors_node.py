"""A whole node whose pipeline takes a prior from an archive; it is killed while it fetches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomnode.model.peer import Peer
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, kill_at, wait_for
from tests.harness.toy_pipeline import PRIOR, with_prior, write_toy_pipeline
from tests.peers import free_port, orthanc
from tests.services.test_evidence_node import send_all

NOW, SLICES = 4, 12
"""Instances of the series, and of its prior."""
ROUTE = """
[[peer]]
ae_title = "{peer.ae_title}"
host = "{peer.host}"
port = {peer.port}
[[destination]]
name = "nowhere"
dimse = {{ ae_title = "NOWHERE", host = "127.0.0.1", port = 1 }}
[[route]]
name = "toy"
when = 'series.modality == "MR"'
pipeline = "toy"
send_to = ["nowhere"]
"""


def pipelines_in(folder: Path, more: str = "") -> Path:
    with_prior(PRIOR.format(more=more))(write_toy_pipeline(folder))
    return folder


def node_beside(folder: Path, pipelines: Path, peer: Peer, **settings: str) -> RunningNode:
    environment = {"DICOMNODE_PRIORS_ASK": peer.ae_title, "DICOMNODE_PRIORS_LIMIT_S": "30.0", **settings}
    # A scanner that has to wait for the machine must not be taken for one that has ended: quiet_s.
    return RunningNode(
        folder, pipelines=pipelines, routes=ROUTE.format(peer=peer), quiet_s=1.5, environment=environment
    )


@pytest.fixture
def now(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "now", small_series(NOW))


@pytest.fixture
def before(tmp_path: Path) -> list[Path]:
    """The same head half a year earlier, 23 brighter."""
    series = small_series(SLICES, StudyDate="20250710", AccessionNumber="A0")
    for ds in series:
        ds.PixelData = (ds.pixel_array + 23).astype("<u2").tobytes()
    return write_series(tmp_path / "before", series)


@pytest.fixture
def archive(tmp_path: Path, before: list[Path]) -> Iterator[RunningNode]:
    """A second dicomnode, which has the prior and nothing else of the patient."""
    (tmp_path / "none").mkdir()
    node = RunningNode(tmp_path / "archive", pipelines=tmp_path / "none", ae_title="ARCHIVE").start()
    send_all(node.peer, before)
    yield node
    node.kill()


def jobs_of(node: RunningNode) -> list[dict]:
    return [job for study in node.status()["list"] for series in study["series"] for job in series["jobs"]]


def ended(node: RunningNode) -> dict | None:
    (job,) = jobs_of(node) or [None]
    return job if job is not None and job["state"] in ("done", "refused", "dead") else None


def report_of(node: RunningNode, job: dict, role: str = "SR") -> Dataset:
    digest = next(result["sha256"] for result in job["results"] if result["role"] == role)
    (path,) = (node.folder / "data" / "objects").rglob(f"*{digest}*")
    return pydicom.dcmread(path)


def said(ds: Dataset) -> str:
    """Every text and number of a report."""
    words = [str(ds.get("TextValue", ""))]
    words += [str(item.NumericValue) for item in ds.get("MeasuredValueSequence", [])]
    return " ".join([*words, *(said(item) for item in ds.get("ContentSequence", []))])


def check_given(node: RunningNode, before: list[Path]) -> None:
    """One job, which was given the prior and says so."""
    job = wait_for("the job", lambda: ended(node), 90)
    prior = pydicom.dcmread(before[0])
    assert (job["state"], job["reason_code"], job["reason"]) == ("done", None, None)
    report = report_of(node, job)
    mean = sum(pydicom.dcmread(path).pixel_array.mean() for path in before) / SLICES
    assert f"{mean:.7g}" in said(report)
    assert f"Prior before: MR of 20250710, series {prior.SeriesInstanceUID}." in said(report)
    (study,) = report.PertinentOtherEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (
        prior.StudyInstanceUID,
        prior.SeriesInstanceUID,
    )
    assert len(series.ReferencedSOPSequence) == SLICES
    assert len(jobs_of(node)) == 1


def test_a_job_runs_with_a_prior_that_an_archive_had_and_its_report_says_so(archive, tmp_path, now, before):
    node = node_beside(tmp_path / "node", pipelines_in(tmp_path / "pipelines"), archive.peer).start()
    try:
        send_all(node.peer, now)
        check_given(node, before)
        (shown,) = node.ask("jobs", "show", str(jobs_of(node)[0]["id"]))["priors"]
        assert (shown["name"], shown["state"], shown["StudyDate"]) == ("before", "found", "20250710")
    finally:
        node.kill()


POINTS = (
    "dicomnode.services.evidence_source:get:before:1",
    "dicomnode.services.ingest:Ingest.store:after:8",
    "dicomnode.services.evidence_source:get:after:1",
    "dicomnode.store.priors:complete_fetched:after:1",
    "dicomnode.store.jobs:end_waiting:after:1",
)
PATIENT = {"DICOMNODE_PRIORS_LIMIT_S": "600.0"}
"""Several lives of a node pass before a prior is given up."""


def test_a_node_that_is_killed_while_it_fetches_a_prior_goes_on_where_it_was(archive, tmp_path, now, before):
    pipelines = pipelines_in(tmp_path / "pipelines")

    def life(**environment: str) -> RunningNode:
        return node_beside(tmp_path / "node", pipelines, archive.peer, **PATIENT, **environment)

    first, *others = POINTS
    kill_at(first, life, lambda node: send_all(node.peer, now))
    for point in others:
        kill_at(point, life)
    node = life().start()
    try:
        check_given(node, before)
    finally:
        node.kill()


def test_a_prior_is_fetched_from_an_orthanc(tmp_path, now, before):
    with orthanc(tmp_path / "orthanc", DicomAlwaysAllowGet=True) as peer:
        send_all(peer, before)
        node = node_beside(tmp_path / "node", pipelines_in(tmp_path / "pipelines"), peer).start()
        try:
            send_all(node.peer, now)
            check_given(node, before)
        finally:
            node.kill()


def test_a_job_runs_without_an_optional_prior_and_its_report_says_so(tmp_path, now):
    nobody = Peer("NOBODY", "127.0.0.1", free_port())
    limit = {"DICOMNODE_PRIORS_LIMIT_S": "8.0"}
    node = node_beside(tmp_path / "node", pipelines_in(tmp_path / "pipelines"), nobody, **limit).start()
    try:
        send_all(node.peer, now)
        reason = "waiting for prior before from NOBODY"
        wait_for("the search", lambda: [job["reason"] for job in jobs_of(node)] == [reason], 60)
        job = wait_for("the job", lambda: ended(node), 90)
        assert (job["state"], job["reason_code"], job["reason"]) == ("done", None, None)
        words = said(report_of(node, job))
        assert "Prior before: not used: after 8 s NOBODY could not be asked" in words
        assert "-1" in words
    finally:
        node.kill()


def test_a_job_is_refused_where_a_required_prior_is_missing_and_its_destination_is_told(tmp_path, now):
    with orthanc(tmp_path / "orthanc", DicomAlwaysAllowGet=True) as peer:
        pipelines = pipelines_in(tmp_path / "pipelines", "required = true")
        node = node_beside(tmp_path / "node", pipelines, peer).start()
        try:
            send_all(node.peer, now)
            job = wait_for("the job", lambda: ended(node), 90)
            assert (job["state"], job["reason_code"]) == ("refused", "PRIOR_MISSING")
            assert job["reason"] == "prior before: ORTHANC lists none"
            job = wait_for("the notice", lambda: (ended(node) or {}).get("results") and ended(node), 60)
            assert "prior before: ORTHANC lists none" in said(report_of(node, job, "NOTICE"))
        finally:
            node.kill()
