"""A study goes in and its results come out, with real peers on both sides."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicomnode.dimse.query import listed_instances
from dicomnode.dimse.sender import echo
from dicomnode.errors import AssociationFailed
from dicomnode.model.peer import Peer
from tests import peers
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, send_files, wait_for
from tests.harness.toy_pipeline import in_windows, write_toy_pipeline

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"


def route_to(peer: Peer, name: str = "archive") -> str:
    return f"""
[[destination]]
name = "{name}"
dimse = {{ ae_title = "{peer.ae_title}", host = "{peer.host}", port = {peer.port} }}
[[route]]
name = "toy"
when = 'series.modality == "MR"'
pipeline = "toy"
send_to = ["{name}"]
"""


@pytest.fixture
def pipelines(tmp_path: Path) -> Path:
    write_toy_pipeline(tmp_path / "pipelines")
    return tmp_path / "pipelines"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A second dicomnode, without pipelines, which takes what the nodes of all tests send."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "none").mkdir()
    node = RunningNode(folder, pipelines=folder / "none", ae_title="ARCHIVE").start()
    yield node
    node.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, archive: RunningNode) -> Iterator[RunningNode]:
    """The node of those tests that only send a study of their own and look what becomes of it."""
    folder = tmp_path_factory.mktemp("shared")
    write_toy_pipeline(folder / "pipelines")
    node = running(folder / "node", folder / "pipelines", archive.peer)
    yield node
    node.kill()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "series", small_series())


def study_of(node: RunningNode, files: list[Path]) -> dict | None:
    uid = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    return next((each for each in node.status()["list"] if each["StudyInstanceUID"] == uid), None)


def jobs_of(node: RunningNode, files: list[Path]) -> list[dict]:
    study = study_of(node, files)
    return [job for series in study["series"] for job in series["jobs"]] if study else []


def results_of(node: RunningNode, files: list[Path]) -> list[dict]:
    return [result for job in jobs_of(node, files) for result in job["results"]]


def delivered(node: RunningNode, files: list[Path], number: int = 2) -> bool:
    """That many results of the study are confirmed, and none is under way."""
    states = [each["state"] for result in results_of(node, files) for each in result["deliveries"]]
    return states == ["confirmed"] * number


def noticed(node: RunningNode) -> list[dict]:
    return [event for event in node.events() if event["event"] == "job.noticed"]


def running(folder: Path, pipelines: Path, archive: Peer, **options) -> RunningNode:
    return RunningNode(folder, pipelines=pipelines, routes=route_to(archive), **options).start()


def test_the_results_lie_in_the_archive_in_the_patients_study_and_in_place(shared, archive, files):
    assert set(send_files(shared.peer, files).values()) == {None}
    wait_for("both results confirmed", lambda: delivered(shared, files))
    results = results_of(shared, files)
    source = pydicom.dcmread(files[0])
    for result in results:
        listed = listed_instances(archive.peer, "TEST", source.StudyInstanceUID, result["SeriesInstanceUID"])
        assert listed == {result["SOPInstanceUID"]}
    seg, sr = (pydicom.dcmread(stored(archive, result)) for result in results)
    for ds in (seg, sr):
        assert (ds.PatientID, ds.PatientName) == (source.PatientID, source.PatientName)
        assert ds.StudyInstanceUID == source.StudyInstanceUID
    expected = {ds.SOPInstanceUID: ds.pixel_array > 500 for ds in map(pydicom.dcmread, files)}
    for plane, frame in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        of = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert np.array_equal(plane.astype(bool), expected[of])


def stored(archive: RunningNode, result: dict) -> Path:
    """The archive's own file of a result."""

    def uid(file: Path) -> str:
        return pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID

    files = (archive.folder / "data" / "objects").glob("*/*")
    return next(file for file in files if uid(file) == result["SOPInstanceUID"])


def test_a_destination_that_is_down_delays_and_loses_nothing(tmp_path, pipelines, files):
    port = peers.free_port()
    node = running(tmp_path / "node", pipelines, Peer("ARCHIVE", "127.0.0.1", port))
    try:
        send_files(node.peer, files)
        wait_for("a failed attempt", lambda: node.status()["deliveries"].get("retry_wait") == 2)
        late = RunningNode(tmp_path / "late", pipelines=pipelines, ae_title="ARCHIVE")
        late.config.write_text(late.config.read_text().replace("port = 0", f"port = {port}", 1))
        late.start()
        try:
            wait_for("both results confirmed", lambda: delivered(node, files))
        finally:
            late.kill()
    finally:
        node.kill()


def test_a_late_instance_makes_a_second_generation_whose_results_withdraw_the_first_ones(
    shared, archive, files
):
    send_files(shared.peer, files[:-1])
    wait_for("the first results", lambda: delivered(shared, files))
    send_files(shared.peer, files[-1:])
    wait_for("the second results and the withdrawal", lambda: delivered(shared, files, 5))
    (series,) = study_of(shared, files)["series"]
    assert [c["instance_count"] for c in series["completions"]] == [11, 12]
    first, second = (job["results"] for job in series["jobs"])
    assert [result["role"] for result in second] == ["WITHDRAWAL", "SEG", "SR"]
    withdrawal, _, report = (pydicom.dcmread(stored(archive, result)) for result in second)
    (study,) = withdrawal.CurrentRequestedProcedureEvidenceSequence
    rejected = {
        item.ReferencedSOPInstanceUID
        for of_series in study.ReferencedSeriesSequence
        for item in of_series.ReferencedSOPSequence
    }
    assert rejected == {result["SOPInstanceUID"] for result in first}
    (before,) = report.PredecessorDocumentsSequence
    named = before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == next(each["SOPInstanceUID"] for each in first if each["role"] == "SR")


def test_a_resent_study_makes_no_second_job(shared, files):
    for _ in range(2):
        assert set(send_files(shared.peer, files).values()) == {None}
        wait_for("both results confirmed", lambda: delivered(shared, files))
    assert [job["state"] for job in jobs_of(shared, files)] == ["done"]


def test_the_administrators_order_completes_a_series_at_once(tmp_path, pipelines, archive, files):
    node = running(tmp_path / "node", pipelines, archive.peer, quiet_s=600.0)
    try:
        send_files(node.peer, files)
        assert node.status()["series_open"] == 1
        done = node.run("series", "complete", pydicom.dcmread(files[0]).SeriesInstanceUID)
        assert (done.returncode, done.stdout.strip()) == (0, "complete")
        wait_for("both results confirmed", lambda: delivered(node, files))
    finally:
        node.kill()


def test_a_series_that_does_not_suit_is_refused_with_its_reason_and_is_not_dead(tmp_path, archive, files):
    write_toy_pipeline(tmp_path / "strict")
    manifest = tmp_path / "strict" / "toy" / "pipeline.toml"
    manifest.write_text(manifest.read_text().replace('"MR"', '"CT"'))
    node = running(tmp_path / "node", tmp_path / "strict", archive.peer)
    try:
        send_files(node.peer, files)
        wait_for("the refusal", lambda: node.status()["jobs"] == {"refused": 1})
        (job,) = node.ask("jobs", "list")
        assert (job["reason_code"], job["reason"]) == ("NOT_MR", "The series is not MR.")
        wait_for("the notice", lambda: delivered(node, files, 1))
        (notice,) = results_of(node, files)
        said = pydicom.dcmread(stored(archive, notice)).ContentSequence
        words = [item.TextValue for item in said if item.ConceptNameCodeSequence[0].CodeMeaning == "Comment"]
        assert words[0].startswith("AI did not run: Bright tissue 1.0.0")
        assert words[1] == "Reason: The series is not MR (NOT_MR)."
    finally:
        node.kill()


def test_a_job_that_died_tells_its_destinations_and_takes_it_back_when_it_succeeds_after_all(
    tmp_path, archive, files
):
    flag = tmp_path / "well"
    write_toy_pipeline(tmp_path / "toys", extra=f"assert os.path.exists({str(flag)!r})")
    node = running(tmp_path / "node", tmp_path / "toys", archive.peer)
    try:
        send_files(node.peer, files)
        wait_for("the dead job", lambda: node.status()["jobs"] == {"dead": 1})
        wait_for("the notice", lambda: delivered(node, files, 1))
        (notice,) = results_of(node, files)
        flag.touch()
        assert node.run("jobs", "retry", "1").returncode == 0
        wait_for("the results", lambda: delivered(node, files, 4))
        assert [result["role"] for result in results_of(node, files)] == ["NOTICE", "WITHDRAWAL", "SEG", "SR"]
        withdrawal = pydicom.dcmread(stored(archive, results_of(node, files)[1]))
        (of_series,) = withdrawal.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        (rejected,) = of_series.ReferencedSOPSequence
        assert rejected.ReferencedSOPInstanceUID == notice["SOPInstanceUID"]
    finally:
        node.kill()


def test_each_destination_gets_the_results_in_the_form_of_its_profile(tmp_path, pipelines, archive, files):
    manifest = pipelines / "toy" / "pipeline.toml"
    yields = 'input = "volume"\noutputs = ["SEG", "SC", "PDF", "KOS", "PR", "RTSTRUCT", "SR"]'
    manifest.write_text(manifest.read_text().replace('input = "volume"', yields))
    viewer = RunningNode(tmp_path / "viewer", pipelines=pipelines, ae_title="VIEWER").start()
    routes = route_to(archive.peer) + route_to(viewer.peer, "viewer").split("[[route]]")[0]
    routes = routes.replace('send_to = ["archive"]', 'send_to = ["archive", "viewer"]')
    routes += """profile = "small"
[profile.small]
segmentation = "LABELMAP"
takes = ["SEG"]
"""
    node = RunningNode(tmp_path / "node", pipelines=pipelines, routes=routes).start()
    try:
        send_files(node.peer, files)
        wait_for("all results confirmed", lambda: delivered(node, files, 8))
        sent = {
            (delivery["destination"], result["role"]): result["SOPClassUID"]
            for result in results_of(node, files)
            for delivery in result["deliveries"]
        }
        roles = {"SEG", "SC", "PDF", "KOS", "PR", "RTSTRUCT", "SR"}
        assert set(sent) == {("archive", role) for role in roles} | {("viewer", "SEG")}
        assert (sent["archive", "SEG"], sent["viewer", "SEG"]) == (SEG, LABELMAP)
    finally:
        node.kill()
        viewer.kill()


def test_two_patients_in_one_study_are_held_for_a_person(tmp_path, pipelines, archive):
    series = small_series()
    series[3].PatientID = "SOMEBODY ELSE"
    files = write_series(tmp_path / "s", series)
    node = running(tmp_path / "node", pipelines, archive.peer)
    try:
        send_files(node.peer, files)
        wait_for("the held job", lambda: node.status()["jobs"] == {"held": 1})
        (job,) = node.ask("jobs", "list")
        assert "different patients" in job["reason"]
        assert node.run("jobs", "release", str(job["id"])).returncode == 0
        wait_for("the refusal", lambda: node.status()["jobs"] == {"refused": 1})
        assert node.ask("jobs", "list")[0]["reason_code"] == "MIXED_PATIENT"
        wait_for("no notice: whose it would be is not known", lambda: noticed(node))
        assert results_of(node, files) == []
    finally:
        node.kill()


HOARD = "held = torch.ones(400_000_000 if image.shape[0] > {most} else 1); time.sleep(60 * (len(held) > 1))"


def test_a_job_that_ran_out_of_memory_is_tried_once_more_with_less_at_a_time(tmp_path, archive, files):
    in_windows(write_toy_pipeline(tmp_path / "toys", extra=HOARD.format(most=1), memory_mb=1200))
    node = running(tmp_path / "node", tmp_path / "toys", archive.peer)
    try:
        send_files(node.peer, files)
        wait_for("both results confirmed", lambda: delivered(node, files))
        assert [run["outcome"] for run in node.ask("jobs", "show", "1")["runs"]] == ["OUT_OF_MEMORY", "done"]
    finally:
        node.kill()


def test_a_job_that_needs_more_memory_in_any_case_is_dead_after_the_second_attempt(tmp_path, archive, files):
    write_toy_pipeline(tmp_path / "toys", extra=HOARD.format(most=0), memory_mb=1200)
    node = running(tmp_path / "node", tmp_path / "toys", archive.peer)
    try:
        send_files(node.peer, files)
        wait_for("the dead job", lambda: node.status()["jobs"] == {"dead": 1})
        (job,) = node.ask("jobs", "list")
        assert (job["attempt"], job["reason_code"]) == (2, "OUT_OF_MEMORY")
    finally:
        node.kill()


def test_a_job_that_runs_is_cancelled_and_nothing_is_delivered(tmp_path, archive, files):
    write_toy_pipeline(tmp_path / "slow", extra="time.sleep(600)")
    node = running(tmp_path / "node", tmp_path / "slow", archive.peer)
    try:
        send_files(node.peer, files)
        wait_for("the run", lambda: node.status()["jobs"] == {"leased": 1})
        assert node.run("jobs", "cancel", "1").returncode == 0
        wait_for("the worker to notice", lambda: [e for e in node.events() if e["event"] == "job.lease_lost"])
        assert node.status()["jobs"] == {"cancelled": 1}
    finally:
        node.kill()


def test_sigterm_hands_a_run_back_within_the_limit_and_a_restart_finishes_it(tmp_path, archive, files):
    flag = tmp_path / "go"
    until_it_may_go_on = f"[time.sleep(0.05) for _ in iter(lambda: os.path.exists({str(flag)!r}), True)]"
    write_toy_pipeline(tmp_path / "slow", extra=until_it_may_go_on)
    node = running(tmp_path / "node", tmp_path / "slow", archive.peer)
    try:
        send_files(node.peer, files)
        wait_for("the run", lambda: node.status()["jobs"] == {"leased": 1})
        assert node.stop() == 0
        status = node.status()
        assert status["jobs"] == {"ready": 1}
        flag.touch()
        node.start()
        wait_for("both results confirmed", lambda: delivered(node, files))
        assert node.ask("jobs", "list")[0]["attempt"] == 1
    finally:
        node.kill()


def test_a_pipeline_that_hangs_is_ended_at_its_limit_and_is_dead_after_its_attempts(tmp_path, archive, files):
    write_toy_pipeline(tmp_path / "slow", time_limit_s=1, extra="time.sleep(600)")
    node = running(tmp_path / "node", tmp_path / "slow", archive.peer)
    try:
        send_files(node.peer, files)
        wait_for("the dead job", lambda: node.status()["jobs"] == {"dead": 1}, 120)
        (job,) = node.ask("jobs", "list")
        assert (job["reason_code"], job["attempt"]) == ("TIMED_OUT", 3)
    finally:
        node.kill()


def test_who_is_not_on_the_list_is_not_let_in(tmp_path, pipelines):
    node = RunningNode(tmp_path / "node", pipelines=pipelines)
    node.config.write_text(node.config.read_text().replace('ae_title = "*"', 'ae_title = "CT1"'))
    node.start()
    try:
        echo(node.peer, "CT1")
        with pytest.raises(AssociationFailed):
            echo(node.peer, "CT2")
        with pytest.raises(AssociationFailed):
            echo(Peer("OTHER", "127.0.0.1", node.port), "CT1")
    finally:
        node.kill()


def test_the_whole_way_on_postgresql(tmp_path, pipelines, archive, files, empty_postgres_url):
    node = running(
        tmp_path / "node", pipelines, archive.peer, environment={"DICOMNODE_DATABASE_URL": empty_postgres_url}
    )
    try:
        send_files(node.peer, files)
        wait_for("both results confirmed", lambda: delivered(node, files))
    finally:
        assert node.stop() == 0


def test_orthanc_as_archive_lists_both_results(tmp_path, pipelines, files):
    with peers.orthanc(tmp_path / "orthanc") as archive:
        node = running(tmp_path / "node", pipelines, archive)
        try:
            send_files(node.peer, files)
            wait_for("both results confirmed", lambda: delivered(node, files))
        finally:
            node.kill()


def test_orthanc_sends_a_study_and_the_results_come_out(tmp_path, shared, files):
    web = peers.free_port()
    settings = {
        "HttpServerEnabled": True,
        "HttpPort": web,
        "AuthenticationEnabled": False,
        "DicomModalities": {"node": ["NODE", "127.0.0.1", shared.port]},
    }
    with peers.orthanc(tmp_path / "orthanc", **settings):
        peers.wait_for(lambda: peers.listens(web))
        ids = [post(web, "/instances", file.read_bytes())["ID"] for file in files]
        assert post(web, "/modalities/node/store", json.dumps(ids).encode())["FailedInstancesCount"] == 0
        wait_for("both results confirmed", lambda: delivered(shared, files))


def post(port: int, path: str, body: bytes) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body)
    answer: dict = json.load(connection.getresponse())
    connection.close()
    return answer


def test_storescp_as_archive_takes_both_results_and_is_never_taken_as_proof(tmp_path, pipelines, files):
    with peers.storescp(tmp_path / "received") as archive:
        node = running(tmp_path / "node", pipelines, archive)
        try:
            send_files(node.peer, files)
            wait_for("both files", lambda: len(list((tmp_path / "received").iterdir())) == 2)
            wait_for(
                "a question", lambda: [e for e in node.events() if e["event"] == "delivery.check_failed"]
            )
            assert node.status()["deliveries"] == {"sent": 2}
        finally:
            node.kill()


@pytest.mark.parametrize(
    "options",
    [[], ["-xs"], ["-xt"], ["-xv"], ["-xr"], ["-xd"]],
    ids=["uncompressed", "jpeg-lossless", "jpeg-ls", "jpeg-2000", "rle", "deflated"],
)
@pytest.mark.parametrize("program", ["storescu", "dcmsend"])
def test_dcmtk_sends_each_syntax_and_the_result_is_the_same(
    tmp_path, shared, archive, files, program, options
):
    encoded = encode(tmp_path / "encoded", files, options)
    flags = ["-R", *options] if program == "storescu" else ["-dn"]
    peers.run(program, *flags, "-aec", "NODE", "127.0.0.1", shared.port, *encoded)
    wait_for("both results confirmed", lambda: delivered(shared, files))
    seg = pydicom.dcmread(stored(archive, results_of(shared, files)[0]))
    assert seg.pixel_array.sum() == sum(int((pydicom.dcmread(f).pixel_array > 500).sum()) for f in files)


ENCODERS = {
    "-xs": ("dcmcjpeg", "+e1"),
    "-xt": ("dcmcjpls",),
    "-xr": ("dcmcrle",),
    "-xd": ("dcmconv", "+td"),
}


def encode(folder: Path, files: list[Path], options: list[str]) -> list[Path]:
    """The series in the syntax that the options of storescu propose."""
    folder.mkdir()
    made = []
    for file in files:
        target = folder / file.name
        if options == ["-xv"]:
            ds = pydicom.dcmread(file)
            ds.compress(pydicom.uid.JPEG2000Lossless)
            ds.save_as(target)
        elif options:
            program, *flags = ENCODERS[options[0]]
            peers.run(program, *flags, file, target)
        else:
            target.write_bytes(file.read_bytes())
        made.append(target)
    return made
