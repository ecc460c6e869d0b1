"""Delivered means proven: by storage commitment, both ways, or by QIDO-RS after STOW-RS; with Orthanc too."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicomnode.dimse.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from dicomnode.model.peer import Peer
from tests import peers
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, kill_at, send_files, wait_for
from tests.harness.toy_pipeline import write_toy_pipeline

ROUTE = """
[[route]]
name = "toy"
when = 'series.modality == "MR"'
pipeline = "toy"
send_to = ["archive"]
"""


def by_commitment(peer: Peer) -> str:
    return f"""
[[destination]]
name = "archive"
dimse = {{ ae_title = "{peer.ae_title}", host = "{peer.host}", port = {peer.port} }}
confirm = "commitment"
{ROUTE}
"""


def with_peer(peer: Peer) -> str:
    return f'[[peer]]\nae_title = "{peer.ae_title}"\nhost = "{peer.host}"\nport = {peer.port}\n'


@pytest.fixture
def pipelines(tmp_path: Path) -> Path:
    write_toy_pipeline(tmp_path / "pipelines")
    return tmp_path / "pipelines"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "series", small_series())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A second dicomnode, without pipelines, which takes what the nodes of all tests send."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "none").mkdir()
    node = RunningNode(folder, pipelines=folder / "none", ae_title="ARCHIVE").start()
    yield node
    node.kill()


def delivered(node: RunningNode) -> bool:
    return node.status()["deliveries"] == {"confirmed": 2}


def test_a_dicomnode_commits_itself_to_another_ones_results(tmp_path, pipelines, archive, files):
    before = len(archive.events())
    node = RunningNode(tmp_path / "node", pipelines=pipelines, routes=by_commitment(archive.peer)).start()
    try:
        assert set(send_files(node.peer, files).values()) == {None}
        wait_for("both results confirmed", lambda: delivered(node), 150)
        assert [event for event in archive.events()[before:] if event["event"] == "commitment.reported"]
    finally:
        node.kill()


POINTS = {
    "a transaction is written down and not asked": "dicomnode.dimse.commitment:_asked:before:1",
    "the archive has taken the request": "dicomnode.dimse.commitment:_asked:after:1",
    "the archive's report is not committed": "dicomnode.store.commitments:take_report:after:1",
    "a report is taken and not answered": "dicomnode.services.commitment:CommitmentReports.take:after:1",
}


def test_results_are_confirmed_all_the_same_when_the_node_is_killed_at_one_point_after_the_other(
    tmp_path, pipelines, archive, files
):
    def life(**environment: str) -> RunningNode:
        short = {"DICOMNODE_DELIVERY_REPORT_LIMIT_S": "1.0", **environment}
        routes = by_commitment(archive.peer)
        return RunningNode(tmp_path / "node", pipelines=pipelines, routes=routes, environment=short)

    first, *others = POINTS.values()
    kill_at(first, life, lambda node: send_files(node.peer, files))
    for point in others:
        kill_at(point, life)
    node = life().start()
    try:
        wait_for("both results confirmed", lambda: delivered(node), 150)
    finally:
        node.kill()


class Scanner:
    """Takes reports on a port of its own."""

    def __init__(self) -> None:
        self.reports: list[Dataset] = []
        ae = AE("SCANNER")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self.server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)]
        )
        self.peer = Peer("SCANNER", "127.0.0.1", self.server.server_address[1])

    def _take(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append(event.event_information)
        return 0x0000, None

    def ask(self, node: RunningNode, files: list[Path]) -> str:
        ds = Dataset()
        ds.TransactionUID = generate_uid()
        ds.ReferencedSOPSequence = []
        for file in files:
            item = Dataset()
            stored = pydicom.dcmread(file, stop_before_pixels=True)
            item.ReferencedSOPClassUID = stored.SOPClassUID
            item.ReferencedSOPInstanceUID = stored.SOPInstanceUID
            ds.ReferencedSOPSequence.append(item)
        ae = AE("SCANNER")
        ae.add_requested_context(StorageCommitmentPushModel)
        assoc = ae.associate("127.0.0.1", node.port, ae_title="NODE")
        assoc.send_n_action(ds, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
        assoc.abort()
        return str(ds.TransactionUID)


@pytest.fixture
def scanner() -> Iterator[Scanner]:
    scanner = Scanner()
    yield scanner
    scanner.server.shutdown()


PROVIDER = "dicomnode.services.commitment:CommitmentProvider"
PROVIDER_POINTS = {
    "nothing is looked at": f"{PROVIDER}._said:before:1",
    "what will be said is written down": f"{PROVIDER}._said:after:1",
    "a report is taken and that is not noted": "dicomnode.store.commitments:reported:before:1",
}
TAKEN = f"{PROVIDER}.take:after:1"
"""A request is written down and not answered."""


def test_who_asked_for_commitment_gets_its_report_when_the_node_is_killed_at_one_point_after_the_other(
    tmp_path, pipelines, scanner, files
):
    def life(**environment: str) -> RunningNode:
        routes = with_peer(scanner.peer)
        return RunningNode(tmp_path / "node", pipelines=pipelines, routes=routes, environment=environment)

    asked: list[str] = []

    def ask(node: RunningNode) -> None:
        send_files(node.peer, files)
        asked.append(scanner.ask(node, files))

    first, *others = PROVIDER_POINTS.values()
    kill_at(first, life, ask)
    for point in others:
        kill_at(point, life)
    # With a request of its own: whether that of the others was answered before the kill is a race.
    kill_at(TAKEN, life, ask)
    node = life().start()
    try:
        wait_for("both reports", lambda: {each.TransactionUID for each in scanner.reports} == set(asked), 90)
        assert {len(each.ReferencedSOPSequence) for each in scanner.reports} == {len(files)}
    finally:
        node.kill()


def test_orthanc_as_archive_commits_itself_on_an_association_of_its_own(tmp_path, pipelines, files):
    web = peers.free_port()
    with peers.orthanc(tmp_path / "orthanc", **rest(web)) as archive:
        node = RunningNode(tmp_path / "node", pipelines=pipelines, routes=by_commitment(archive)).start()
        try:
            peers.wait_for(lambda: peers.listens(web))
            # Orthanc refuses a request from whom it does not know how to answer.
            call(web, "PUT", "/modalities/node", ["NODE", "127.0.0.1", node.port])
            send_files(node.peer, files)
            wait_for("both results confirmed", lambda: delivered(node), 150)
        finally:
            node.kill()


def test_orthanc_as_sender_gets_its_report(tmp_path, pipelines, files):
    web = peers.free_port()
    with peers.orthanc(tmp_path / "orthanc", **rest(web)) as sender:
        node = RunningNode(tmp_path / "node", pipelines=pipelines, routes=with_peer(sender)).start()
        try:
            peers.wait_for(lambda: peers.listens(web))
            call(web, "PUT", "/modalities/node", ["NODE", "127.0.0.1", node.port])
            ids = [call(web, "POST", "/instances", file.read_bytes())["ID"] for file in files]
            call(web, "POST", "/modalities/node/store", ids[:-1])
            asked = call(web, "POST", "/modalities/node/storage-commitment", {"Resources": ids[:-1]})
            reported(web, asked, "Success")
            asked = call(web, "POST", "/modalities/node/storage-commitment", {"Resources": ids})
            failures = reported(web, asked, "Failure")["Failures"]
            missing = pydicom.dcmread(files[-1]).SOPInstanceUID
            assert [failure["SOPInstanceUID"] for failure in failures] == [missing]
        finally:
            node.kill()


def reported(web: int, asked: dict[str, Any], status: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        answer = call(web, "GET", asked["Path"])
        return answer if answer["Status"] != "Pending" else None

    answer = wait_for("the report", found)
    assert answer["Status"] == status
    return answer


def test_results_go_to_orthanc_by_stow_and_are_confirmed_by_qido(tmp_path, pipelines, files):
    plugin = dicomweb_plugin()
    web = peers.free_port()
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"node": "s3cret"}}
    with peers.orthanc(tmp_path / "orthanc", **{**rest(web), **users}, Plugins=[str(plugin)]):
        peers.wait_for(lambda: peers.listens(web))
        routes = f"""
[[destination]]
name = "archive"
web = {{ url = "http://127.0.0.1:{web}/dicom-web", user = "node" }}
confirm = "qido"
{ROUTE}
"""
        secret = {"DICOMNODE_SECRET_ARCHIVE": "s3cret"}
        node = RunningNode(tmp_path / "node", pipelines=pipelines, routes=routes, environment=secret).start()
        try:
            send_files(node.peer, files)
            wait_for("both results confirmed", lambda: delivered(node), 150)
            assert "s3cret" not in node.log.read_text()
        finally:
            node.kill()


def test_a_dicomnode_takes_another_ones_results_by_stow(tmp_path, pipelines, archive, files):
    port = wait_for("web", lambda: [e for e in archive.events() if e["event"] == "web.listening"])[0]["port"]
    routes = f"""
[[destination]]
name = "archive"
web = {{ url = "http://127.0.0.1:{port}/dicom-web" }}
confirm = "qido"
{ROUTE}
"""
    node = RunningNode(tmp_path / "node", pipelines=pipelines, routes=routes).start()
    try:
        send_files(node.peer, files)
        wait_for("both results confirmed", lambda: delivered(node), 150)
    finally:
        node.kill()


def rest(port: int) -> dict[str, object]:
    return {
        "HttpServerEnabled": True,
        "HttpPort": port,
        "AuthenticationEnabled": False,
        "OverwriteInstances": True,
    }


def dicomweb_plugin() -> Path:
    for folder in ("/usr/lib/orthanc", "/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins"):
        if found := sorted(Path(folder).glob("libOrthancDicomWeb.so*")):
            return found[0]
    pytest.skip(f"{peers.NOT_RUN_HERE}Orthanc's DICOMweb plug-in")


def call(port: int, method: str, path: str, body: object = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body))
    answer = connection.getresponse().read()
    connection.close()
    return json.loads(answer) if answer.strip() else None
