"""A scanner, a node and an archive that write down what was said; and the check of the books afterwards."""

from __future__ import annotations

import hashlib
import os
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pydicom
from sqlalchemy import select

from dicomnode.config import load_config
from dicomnode.dimse.find import find
from dicomnode.dimse.receiver import AcceptRule, Receiver, ReceiverSettings
from dicomnode.dimse.storage import storage
from dicomnode.errors import DimseError
from dicomnode.installation import Stores, open_stores
from dicomnode.model.instance import Received
from dicomnode.services.find import Finder
from dicomnode.services.ingest import Ingest
from dicomnode.store.part10 import file_head
from dicomnode.store.schema import job, job_event, result
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, send_files, wait_for
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.peers import free_port

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
FIRST_SEED = int(os.environ.get("FAULT_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + max(1, ROUNDS // 10))
"""Random faults that take a node of their own are played with these: `make faults ROUNDS=n SEED=s`."""

ENDED = frozenset({"done", "cancelled", "refused"})


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


class Scene:
    """One series on its way through one node, which may be killed and started again in any way."""

    def __init__(self, folder: Path, archive: Archive, pipelines: Path, **environment: str) -> None:
        self._folder, self._archive, self._pipelines = folder, archive, pipelines
        # Fixed ports: a receiver that is started again listens where the scanner looks for it.
        self._environment = {"DICOMNODE_DIMSE_PORT": str(free_port())} | environment
        self.files = write_series(folder / "series", small_series())
        self.acknowledged: set[Path] = set()
        self.node = self.new_node()

    def new_node(self, **environment: str) -> RunningNode:
        """The node as it would be started now, on the same data; `environment` for this life alone."""
        self.node = node_for(self._folder, self._archive, self._pipelines, self._environment | environment)
        return self.node

    def send(self) -> None:
        """The scanner sends what was not acknowledged to it yet, and notes what is now."""
        unsent = [file for file in self.files if file not in self.acknowledged]
        if unsent:
            by_uid = {pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID: file for file in unsent}
            outcomes: Mapping[str, DimseError | None] = send_files(self.node.peer, unsent)
            self.acknowledged |= {by_uid[uid] for uid, error in outcomes.items() if error is None}

    def settle(self, limit_s: float = 90) -> None:
        """All is sent, and everything comes to its end; then the books have to be right."""
        wait_for("all instances acknowledged", self._everything_sent, limit_s)
        wait_for("every delivery confirmed", self.everything_delivered, limit_s)
        self.check_books()

    def _everything_sent(self) -> bool:
        self.send()
        return len(self.acknowledged) == len(self.files)

    def everything_delivered(self) -> bool:
        """Every job has ended, that of all instances well, and every result is confirmed or replaced.

        Instances that come late, after a kill or a freeze, are another generation: what of the series
        was there before may have been too little for the pipeline.
        """
        status = self.node.status()
        if not set(status["jobs"]) <= ENDED or not set(status["deliveries"]) <= {"confirmed", "superseded"}:
            return False
        last = self._last_job(status)
        return last is not None and last["state"] == "done" and bool(status["deliveries"])

    def _last_job(self, status: dict[str, Any]) -> dict[str, Any] | None:
        """The job of the youngest generation, where that has all instances."""
        series = [each for study in status["list"] for each in study["series"]]
        if not series or series[0]["instance_count"] < len(self.files):
            return None
        jobs = sorted(series[0]["jobs"], key=lambda each: each["generation"])
        return jobs[-1] if jobs and jobs[-1]["generation"] == series[0]["generation"] else None

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the node's log says under this name, in all its lives."""
        return [event for event in self.node.events() if event.get("event") == name]

    def pid_of(self, process: str) -> int:
        """The process that has this name now."""
        return next(
            int(e["pid"]) for e in reversed(self.events("process.started")) if e["process"] == process
        )

    def check_books(self) -> None:
        """What was acknowledged is there byte for byte; one job; each result archived with one content."""
        stores = open_stores(load_config(self.node.config, self._environment))
        try:
            self._check_instances(stores)
            check_none_leased(stores)
            check_fences(stores)
        finally:
            stores.database.close()
        assert not list((self.node.folder / "data" / "scratch").glob("*/*/labels.npy"))

    def _check_instances(self, stores: Stores) -> None:
        status = self.node.status()
        (study,) = status["list"]
        (series,) = study["series"]
        assert series["instance_count"] == len(self.files) >= len(self.acknowledged)
        for file in self.files:
            assert stores.objects.intact(stored_digest(file)), file
        by_generation = [each["generation"] for each in series["jobs"]]
        assert len(by_generation) == len(set(by_generation))
        last = self._last_job(status)
        assert last is not None
        with stores.database.read() as tx:
            made = set(tx.execute(select(result.c.SOPInstanceUID)).scalars())
        assert {each["SOPInstanceUID"] for each in last["results"]} <= set(self._archive.received) <= made
        for digests in self._archive.received.values():
            assert len(set(digests)) == 1
            assert len(digests) <= 2


def node_for(folder: Path, archive: Archive, pipelines: Path, environment: Mapping[str, str]) -> RunningNode:
    """A node on the data in `folder` that sends what the toy pipeline makes to the archive."""
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
    # A scanner that has to wait for the machine must not be taken for one that has ended: quiet_s.
    return RunningNode(
        folder / "node", pipelines=pipelines, routes=routes, quiet_s=1.5, environment=environment
    )


def check_none_leased(stores: Stores) -> None:
    """No job is held by anybody."""
    with stores.database.read() as tx:
        assert not tx.execute(select(job.c.id).where(job.c.state == "leased")).all()


def check_fences(stores: Stores) -> None:
    """Each job ended once, and whoever wrote held the youngest fence."""
    with stores.database.read() as tx:
        events = tx.execute(select(job_event).order_by(job_event.c.id)).all()
    by_job = defaultdict(list)
    for event in events:
        by_job[event.job_id].append(event)
    for each in by_job.values():
        assert [event.event for event in each].count("finish") <= 1
        assert all(earlier.fence <= later.fence for earlier, later in pairwise(each))


def processes(node: RunningNode) -> list[psutil.Process]:
    """The processes of a running node but its first."""
    return psutil.Process(node.pid).children(recursive=True)


def moments(seed: int) -> random.Random:
    """Where the moments of one round come from."""
    return random.Random(seed)


def archive_in(folder: Path) -> Iterator[Archive]:
    """An archive that listens, with the toy pipeline beside it."""
    write_toy_pipeline(folder / "pipelines")
    archive = Archive(folder / "archive", folder / "pipelines")
    archive.receiver.start()
    yield archive
    archive.receiver.stop(1)
    archive.stores.database.close()


def stored_digest(file: Path) -> str:
    """The digest under which the node keeps the data set of a file."""
    raw = file.read_bytes()
    ds = pydicom.dcmread(file, stop_before_pixels=True)
    start = 144 + ds.file_meta.FileMetaInformationGroupLength
    head = file_head(ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID)
    return hashlib.sha256(head + raw[start:]).hexdigest()
