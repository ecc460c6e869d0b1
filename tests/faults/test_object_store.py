"""The object store refuses for a while; and one of two receivers that share a store is killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import obstore
import pydicom
import pytest
from pydicom.uid import MRImageStorage
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.dimse.fetch import get
from dicomnode.errors import StoreRefused
from dicomnode.model.instance import Received
from dicomnode.model.peer import Peer
from dicomnode.store.bucket import BucketSettings
from dicomnode.store.part10 import file_head
from tests.conftest import NOT_RUN_HERE
from tests.dicomweb.web import multipart, related
from tests.faults.books import Archive, Scene, stored_digest
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import ROOT, send_files, wait_for
from tests.harness.schema import upgraded
from tests.harness.swift import SwiftServer
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.peers import free_port, running

HAPROXY = ROOT / "docker" / "haproxy.cfg"


def test_a_store_that_refuses_for_a_while_costs_no_instance_no_job_and_no_delivery(
    tmp_path: Path, archive: Archive, swift_server: SwiftServer, s3_bucket: BucketSettings
) -> None:
    write_toy_pipeline(tmp_path / "slow", extra="time.sleep(2.0)")
    environment = swift_server.environment(s3_bucket.name, timeout_s=2.0)
    scene = Scene(tmp_path, archive, tmp_path / "slow", **environment)
    scene.node.start()
    try:
        scene.files, later = scene.files[:6], scene.files[6:]
        scene.send()
        assert len(scene.acknowledged) == 6
        swift_server.refuse()
        assert_refused(scene, later)
        swift_server.start("proxy")
        scene.files += later
        wait_for("all instances acknowledged", lambda: scene.send() or len(scene.acknowledged) == 12)
        wait_for("the last job to be claimed", lambda: claimed(scene, 12))
        swift_server.refuse()
        wait_for("results that wait", lambda: scene.events("results.not_kept"))
        swift_server.start("proxy")
        scene.settle()
        (study,) = scene.node.status()["list"]
        assert {job["attempt"] for series in study["series"] for job in series["jobs"]} == {1}
        assert "testing" not in scene.node.log.read_text()
    finally:
        if "proxy" not in swift_server.processes:
            swift_server.start("proxy")
        scene.node.kill()


def assert_refused(scene: Scene, files: list[Path]) -> None:
    """C-STORE is answered 0xA700 and STOW 503, in bounded time; nothing of it is there."""
    began = time.monotonic()
    outcomes = send_files(scene.node.peer, files[:2])
    assert [error.status for error in outcomes.values() if isinstance(error, StoreRefused)] == [0xA700] * 2
    headers = {"Content-Type": related(), "Accept": "application/dicom+json"}
    body = multipart(files[2].read_bytes())
    answer = httpx.post(f"{scene.node.web_url}/studies", content=body, headers=headers, timeout=30)
    assert answer.status_code == 503
    assert time.monotonic() - began < 30
    assert "cannot be used" in status_of(scene)


def status_of(scene: Scene) -> str:
    """What `dicomnode status` prints."""
    environment = scene.node._environment
    return CliRunner().invoke(app, ["status", "--config", str(scene.node.config)], env=environment).output


def claimed(scene: Scene, count: int) -> bool:
    """True once the job of so many instances runs."""
    series = [each for study in scene.node.status()["list"] for each in study["series"]]
    jobs = [job for each in series if each["instance_count"] == count for job in each["jobs"]]
    return any(job["state"] == "leased" and job["generation"] == series[0]["generation"] for job in jobs)


class RoleProcess:
    """One role of a node in a process of its own, as on a machine of its own."""

    def __init__(self, folder: Path, role: str, environment: Mapping[str, str]) -> None:
        folder.mkdir()
        (folder / "config.toml").write_text(
            """
[node]
ae_title = "NODE"
data = "data"
minimum_free_mb = 1
[dimse]
accept = [{ ae_title = "*", address = "127.0.0.0/8" }]
processes = 1
[web]
accept = [{ ae_title = "*", address = "127.0.0.0/8" }]
[pipelines]
folder = "none"
[logs]
level = "debug"
"""
        )
        (folder / "none").mkdir()
        self.log = folder / "log.jsonl"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dicomnode", "serve", "--role", role, "--config", "config.toml"],
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_text(errors="replace").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in events if event.get("event") == name]

    def listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        return bool(self.events("receiver.listening") or self.events("web.listening"))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)


@contextmanager
def balanced(folder: Path, receivers: list[int], web: int) -> Iterator[tuple[int, int]]:
    """HAProxy with the project's own configuration; its ports for DIMSE and for the web."""
    if (program := shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")) is None:
        pytest.skip(f"{NOT_RUN_HERE}haproxy")
    ports = free_port(), free_port()
    places = {
        "DIMSE_BIND": f"127.0.0.1:{ports[0]}",
        "WEB_BIND": f"127.0.0.1:{ports[1]}",
        "WEB_1": f"127.0.0.1:{web}",
        "WEB_2": f"127.0.0.1:{free_port()}",
        **{f"RECEIVER_{number}": f"127.0.0.1:{port}" for number, port in enumerate(receivers, start=1)},
    }
    command = [
        "env",
        *(f"{name}={place}" for name, place in places.items()),
        program,
        "-db",
        "-f",
        str(HAPROXY),
    ]
    with running(command, folder / "haproxy.log", *ports):
        yield ports


def test_a_receiver_that_is_killed_behind_haproxy_takes_nothing_with_it(
    tmp_path: Path, postgres_url: str, swift_server: SwiftServer, s3_bucket: BucketSettings
) -> None:
    """Machines have nothing in common but PostgreSQL and S3; what one acknowledged, every other gives."""
    database = upgraded(postgres_url)
    database.close()
    shared = {"DICOMNODE_DATABASE_URL": postgres_url, **swift_server.environment(s3_bucket.name)}
    listening = [free_port(), free_port()]
    web_port = free_port()
    files = write_series(tmp_path / "series", small_series(60))
    with ExitStack() as stack:
        receivers = [
            RoleProcess(
                tmp_path / f"receiver{number}", "receiver", {**shared, "DICOMNODE_DIMSE_PORT": str(port)}
            )
            for number, port in enumerate(listening)
        ]
        web = RoleProcess(tmp_path / "web", "web", {**shared, "DICOMNODE_WEB_PORT": str(web_port)})
        for each in (*receivers, web):
            stack.callback(each.kill)
        wait_for("three processes", lambda: all(each.listens() for each in (*receivers, web)), 150)
        dimse, http = stack.enter_context(balanced(tmp_path, listening, web_port))
        sender = Sender(Peer("NODE", "127.0.0.1", dimse), files)
        stack.callback(sender.stop)
        wait_for(
            "traffic at both", lambda: all(len(each.events("instances.stored")) > 3 for each in receivers)
        )
        assert len(sender.acknowledged) < len(files)
        receivers[0].kill()
        wait_for("all instances acknowledged", lambda: len(sender.acknowledged) == len(files))
        digests = {stored_digest(file) for file in files}
        assert digests == in_s3(swift_server, s3_bucket)
        study = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
        assert digests == by_wado(f"http://127.0.0.1:{http}/dicom-web/studies/{study}")
        assert digests == by_get(Peer("NODE", "127.0.0.1", dimse), study)


class Sender:
    """Four modalities that send each file again until it is acknowledged."""

    def __init__(self, peer: Peer, files: list[Path]) -> None:
        self._peer, self._stop, self.acknowledged = peer, threading.Event(), set[Path]()
        self._threads = [threading.Thread(target=self._send, args=(files[at::4],)) for at in range(4)]
        for thread in self._threads:
            thread.start()

    def _send(self, files: list[Path]) -> None:
        while (left := [file for file in files if file not in self.acknowledged]) and not self._stop.is_set():
            for uid, error in send_files(self._peer, left[:5]).items():
                if error is None:
                    self.acknowledged |= {file for file in left if uid_of(file) == uid}

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def uid_of(file: Path) -> str:
    return str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)


def in_s3(server: SwiftServer, bucket: BucketSettings) -> set[str]:
    """The digests of all objects as others than the node see them; each is named by its own."""
    store = server.store(bucket.name)
    keys = [meta["path"] for page in obstore.list(store) for meta in page]
    digests = {sha256(bytes(obstore.get(store, key).bytes())) for key in keys}
    assert {key.rpartition("/")[2] for key in keys} == digests
    return digests


def by_wado(url: str) -> set[str]:
    """The digests of the instances of a study, as they are stored."""
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    answer = httpx.get(url, headers={"Accept": accept}, timeout=60)
    assert answer.status_code == 200
    boundary = answer.headers["Content-Type"].rpartition("boundary=")[2].encode()
    parts = answer.content.split(b"--" + boundary)[1:-1]
    return {sha256(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")) for part in parts}


def by_get(peer: Peer, StudyInstanceUID: str) -> set[str]:
    """The digests of what C-GET brings, with the head that it is stored with."""
    came: list[Received] = []
    identifier = pydicom.Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", StudyInstanceUID
    get(peer, "VIEWER", identifier, [MRImageStorage], came.append)
    heads = [file_head(one.SOPClassUID, one.SOPInstanceUID, one.TransferSyntaxUID) for one in came]
    return {sha256(head + bytes(one.data)) for head, one in zip(heads, came, strict=True)}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
