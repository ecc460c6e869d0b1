"""The node is killed with SIGKILL at each point of a study's way, started again, and the books are checked.

The archive writes down every C-STORE it answered; the scanner, every instance that was acknowledged to it.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pydicom
import pytest

from dicomnode.config import load_config
from dicomnode.dimse.find import find
from dicomnode.dimse.receiver import AcceptRule, Receiver, ReceiverSettings
from dicomnode.dimse.storage import storage
from dicomnode.installation import Stores, open_stores
from dicomnode.model.instance import Received
from dicomnode.services.find import Finder
from dicomnode.services.ingest import Ingest
from dicomnode.store.part10 import file_head
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, send_files, wait_for
from tests.harness.toy_pipeline import write_toy_pipeline

CRASH = Path(__file__).parent / "crash"

POINTS = {
    "an instance's bytes are written": "dicomnode.store.objects:_sync_file:after:3",
    "an instance is renamed and its folder not synced": "dicomnode.store.objects:_sync_folder:before:9",
    "an instance's bytes are durable, its row not there": "dicomnode.store.catalog:add_instances:before:4",
    "an instance's row is not committed": "dicomnode.store.catalog:add_instances:after:5",
    "an instance is durable and not acknowledged": "dicomnode.services.ingest:Ingest.store:after:6",
    "a series is found complete": "dicomnode.store.completions:_complete:after:1",
    "a job is not committed": "dicomnode.store.jobs:add:after:1",
    "a completion is routed": "dicomnode.services.routing:RoutingService._route:after:1",
    "a job is claimed": "dicomnode.services.execution:Worker._work:before:1",
    "the run is over": "dicomnode.services.inference:encode_results:before:1",
    "the results are encoded": "dicomnode.services.inference:encode_results:after:1",
    "the results are stored": "dicomnode.services.execution:keep:after:1",
    "the job's end is not committed": "dicomnode.services.execution:Worker._finish:after:1",
    "the deliveries are claimed": "dicomnode.services.delivery:Courier._is_intact:before:1",
    "a result is accepted and not noted": "dicomnode.services.delivery:Courier._settle:before:1",
    "a delivery is noted as accepted": "dicomnode.services.delivery:Courier._settle:after:1",
    "the archive lists it and that is not noted": "dicomnode.store.deliveries:confirm:before:1",
}


class Archive:
    """Our own receiver and catalog in this process, with a log of what was answered."""

    def __init__(self, folder: Path, pipelines: Path) -> None:
        folder.mkdir()
        config = folder / "config.toml"
        config.write_text(f'[node]\nminimum_free_mb = 1\n[pipelines]\nfolder = "{pipelines}"\n')
        self.stores: Stores = open_stores(load_config(config, {}))
        self.stores.database.upgrade()
        self._ingest = Ingest(self.stores.database, self.stores.objects)
        self.received: dict[str, list[str]] = defaultdict(list)
        loopback = AcceptRule("*", ip_network("127.0.0.0/8"))
        self.receiver = Receiver(
            ReceiverSettings("ARCHIVE", "127.0.0.1", 0, (loopback,)),
            [storage(self._store), find(Finder(self.stores.database, "ARCHIVE"))],
        )

    def _store(self, received: Received) -> None:
        self._ingest.store(received)
        self.received[received.SOPInstanceUID].append(hashlib.sha256(received.data).hexdigest())


@pytest.fixture
def archive(tmp_path: Path, pipelines: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "archive", pipelines)
    archive.receiver.start()
    yield archive
    archive.receiver.stop(1)
    archive.stores.database.close()


@pytest.fixture
def pipelines(tmp_path: Path) -> Path:
    write_toy_pipeline(tmp_path / "pipelines")
    return tmp_path / "pipelines"


def node_for(archive: Archive, tmp_path: Path, pipelines: Path, environment: dict[str, str]) -> RunningNode:
    routes = f"""
[[destination]]
name = "archive"
dimse = {{ ae_title = "ARCHIVE", host = "127.0.0.1", port = {archive.receiver.port} }}
[[route]]
name = "toy"
when = 'series.modality == "MR"'
pipeline = "toy"
send_to = ["archive"]
"""
    return RunningNode(tmp_path / "node", pipelines=pipelines, routes=routes, environment=environment)


def check_books(node: RunningNode, archive: Archive, files: list[Path], acknowledged: set[str]) -> None:
    """Every acknowledged instance is there byte for byte; one job; each result archived with one content."""
    stores = open_stores(load_config(node.config, {}))
    (study,) = node.status()["list"]
    (series,) = study["series"]
    assert series["instance_count"] == len(files) >= len(acknowledged)
    for file in files:
        digest = stored_digest(file)
        assert stores.objects.path(digest).is_file(), file
    by_generation = [job["generation"] for job in series["jobs"]]
    assert len(by_generation) == len(set(by_generation))
    done = [job for job in series["jobs"] if job["state"] == "done"]
    results = {result["SOPInstanceUID"] for job in done for result in job["results"]}
    assert set(archive.received) == results
    for digests in archive.received.values():
        assert len(set(digests)) == 1
        assert len(digests) <= 2
    assert not list((node.folder / "data" / "scratch").glob("*/*/labels.npy"))


def stored_digest(file: Path) -> str:
    """The digest under which the node keeps the data set of a file."""
    raw = file.read_bytes()
    ds = pydicom.dcmread(file, stop_before_pixels=True)
    start = 144 + ds.file_meta.FileMetaInformationGroupLength
    head = file_head(ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID)
    return hashlib.sha256(head + raw[start:]).hexdigest()


def send_all(node: RunningNode, files: list[Path]) -> set[str]:
    return {uid for uid, error in send_files(node.peer, files).items() if error is None}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_nothing_acknowledged_is_lost_when_the_node_is_killed_as(point, archive, tmp_path, pipelines):
    files = write_series(tmp_path / "series", small_series())
    node = node_for(archive, tmp_path, pipelines, {"CRASH_AT": point, "PYTHONPATH": str(CRASH)}).start()
    try:
        acknowledged = send_all(node, files)
        wait_for("the crash", lambda: not node.alive(), 90)
        node = node_for(archive, tmp_path, pipelines, {}).start()
        unsent = [file for file in files if pydicom.dcmread(file).SOPInstanceUID not in acknowledged]
        if unsent:
            assert len(send_all(node, unsent)) == len(unsent)
        wait_for("every delivery confirmed", lambda: everything_delivered(node), 90)
        check_books(node, archive, files, acknowledged)
    finally:
        node.kill()


@pytest.mark.parametrize("seed", range(4))
def test_nothing_acknowledged_is_lost_when_the_node_is_killed_at_random(seed, archive, tmp_path, pipelines):
    moments = random.Random(seed)
    files = write_series(tmp_path / "series", small_series())
    acknowledged: set[str] = set()
    node = node_for(archive, tmp_path, pipelines, {})
    try:
        # Twice: a job that was running at three kills would be dead, and rightly so.
        for _ in range(2):
            node.start()
            killer = threading.Timer(moments.uniform(0.0, 6.0), node.kill)
            killer.start()
            unsent = [file for file in files if pydicom.dcmread(file).SOPInstanceUID not in acknowledged]
            if unsent:
                acknowledged |= send_all(node, unsent)
            killer.join()
        node.start()
        unsent = [file for file in files if pydicom.dcmread(file).SOPInstanceUID not in acknowledged]
        if unsent:
            acknowledged |= send_all(node, unsent)
        wait_for("every delivery confirmed", lambda: everything_delivered(node), 90)
        check_books(node, archive, files, acknowledged)
    finally:
        node.kill()


def everything_delivered(node: RunningNode) -> bool:
    status = node.status()
    jobs, deliveries = status["jobs"], status["deliveries"]
    return bool(jobs.get("done")) and set(jobs) <= {"done", "cancelled"} and set(deliveries) == {"confirmed"}
