"""Programs of others ask the node: pynetdicom's own, DCMTK's termscu, and Orthanc as a client."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.model.peer import Peer
from tests.dimse.archive import Archive, archive
from tests.dimse.nodes import StartNode
from tests.peers import free_port, orthanc, run, storescp, wait_for


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[Peer]:
    with storescp(tmp_path / "moved") as peer:
        yield peer


@pytest.fixture
def node(tmp_path: Path, destination: Peer) -> Iterator[Archive]:
    with archive(tmp_path, [destination]) as running:
        yield running


def pynetdicom(program: str, node: Archive, *arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "pynetdicom", program, "127.0.0.1", str(node.receiver.port)]
    done = subprocess.run(
        [*command, "-aec", "DICOMNODE", "-v", *arguments],
        capture_output=True, text=True, check=True, timeout=120, cwd=folder,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_pynetdicoms_findscu_finds(node: Archive, tmp_path: Path) -> None:
    study = node.keep_study()[0].StudyInstanceUID
    said = pynetdicom(
        "findscu", node, "-P", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=P1",
        "-k", "StudyInstanceUID=", folder=tmp_path,
    )  # fmt: skip
    assert study in said


def test_pynetdicoms_movescu_moves(node: Archive, tmp_path: Path) -> None:
    study = node.keep_study()[0].StudyInstanceUID
    named = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    pynetdicom("movescu", node, "-S", "-aem", "STORESCP", *named, folder=tmp_path)
    assert len(list((tmp_path / "moved").iterdir())) == 6


def test_pynetdicoms_getscu_gets(node: Archive, tmp_path: Path) -> None:
    study = node.keep_study()[0].StudyInstanceUID
    named = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    pynetdicom("getscu", node, "-S", "-od", "got", *named, folder=tmp_path)
    assert len(list((tmp_path / "got").iterdir())) == 6


def test_termscu_cannot_end_the_node(start_node: StartNode) -> None:
    node = start_node()
    at = ("-aec", "DICOMNODE", "127.0.0.1", node.receiver.port)
    run("termscu", *at, check=False)
    run("echoscu", *at)


def test_orthanc_finds_and_fetches_what_it_found(tmp_path: Path) -> None:
    """Orthanc asks by C-FIND and C-MOVE, with itself as the destination."""
    web = free_port()
    with archive(tmp_path) as node:
        study = node.keep_study()[0].StudyInstanceUID
        modalities = {"node": ["DICOMNODE", "127.0.0.1", node.receiver.port]}
        listens = {"HttpServerEnabled": True, "HttpPort": web}
        settings = {"DicomModalities": modalities, "AuthenticationEnabled": False, **listens}

        def ask(path: str, body: object = None) -> object:
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{web}{path}", data)
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)

        with orthanc(tmp_path / "orthanc", **settings) as peer:
            node.peers[peer.ae_title] = peer
            query = ask("/modalities/node/query", {"Level": "Study", "Query": {"PatientID": "P1"}})
            answers = ask(f"{query['Path']}/answers")
            assert len(answers) == 1
            found = ask(f"{query['Path']}/answers/0/content?simplify")
            assert found["StudyInstanceUID"] == study
            ask(f"{query['Path']}/answers/0/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
            wait_for(lambda: len(ask("/instances")) == 6)
