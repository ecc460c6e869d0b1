"""A scanner, a node and an archive that write down what was said; and when their books are checked."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import psutil
import pydicom

from dicomnode.config import Config, load_config
from dicomnode.dimse.find import find
from dicomnode.dimse.receiver import AcceptRule, Receiver, ReceiverSettings
from dicomnode.dimse.storage import storage
from dicomnode.errors import DimseError
from dicomnode.installation import Stores, open_objects, open_stores
from dicomnode.model.instance import Received
from dicomnode.services.find import Finder
from dicomnode.services.ingest import Ingest
from dicomnode.store.part10 import file_head
from tests.faults.auditing import DELIVERED, ENDED, mistakes, unfinished
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, send_files, wait_for
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.peers import free_port

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
FIRST_SEED = int(os.environ.get("FAULT_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + max(1, ROUNDS // 10))
"""Random faults that take a node of their own are played with these: `make faults ROUNDS=n SEED=s`."""

ROUTE = "toy"
"""The only route of these nodes: every series that is complete is for it."""


class Archive:
    """Our own receiver and catalog in this process, with a log of what was offered to it."""

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
        # First, for what has another content than before is refused, and has to be found all the same.
        self.received[received.SOPInstanceUID].append(hashlib.sha256(received.data).hexdigest())
        self._ingest.store(received)


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
        if not set(status["jobs"]) <= ENDED or not set(status["deliveries"]) <= DELIVERED:
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

    @contextmanager
    def nobody_writes(self) -> Iterator[None]:
        """No process of a node on SQLite is within a transaction that writes while the block runs."""
        stores = open_stores(load_config(self.node.config, self._environment))
        with closing(stores.database), stores.database.begin():
            yield

    def check_books(self) -> None:
        """Nothing is wrong, nothing goes on, and the archive has what the last job made; no result thrice."""
        with stores_as_left(load_config(self.node.config, self._environment)) as stores:
            told = dict(map(named_digest, self.acknowledged))
            wrong = [*mistakes(stores, told, self._archive.received, [ROUTE]), *unfinished(stores)]
        assert not wrong, wrong
        status = self.node.status()
        (study,) = status["list"]
        (series,) = study["series"]
        assert series["instance_count"] == len(self.files) == len(self.acknowledged)
        last = self._last_job(status)
        assert last is not None
        assert {each["SOPInstanceUID"] for each in last["results"]} <= set(self._archive.received)
        assert max(map(len, self._archive.received.values())) <= 2
        assert not list((self.node.folder / "data" / "scratch").glob("*/*/labels.npy"))


@contextmanager
def stores_as_left(config: Config) -> Iterator[Stores]:
    """The rows and objects of a node; of those on S3, no copy of this machine stands for what S3 lost."""
    stores = open_stores(config)
    try:
        with tempfile.TemporaryDirectory() as empty:
            elsewhere = config.node.model_copy(update={"data": Path(empty)})
            as_left = open_objects(config.model_copy(update={"node": elsewhere}))
            yield replace(stores, objects=as_left) if config.objects.url else stores
    finally:
        stores.database.close()


def node_for(folder: Path, archive: Archive, pipelines: Path, environment: Mapping[str, str]) -> RunningNode:
    """A node on the data in `folder` that sends what the toy pipeline makes to the archive."""
    routes = f"""
[[destination]]
name = "archive"
dimse = {{ ae_title = "ARCHIVE", host = "127.0.0.1", port = {archive.receiver.port} }}
[[route]]
name = "{ROUTE}"
when = 'series.modality == "MR"'
pipeline = "toy"
send_to = ["archive"]
"""
    # A scanner that has to wait for the machine must not be taken for one that has ended: quiet_s.
    return RunningNode(
        folder / "node", pipelines=pipelines, routes=routes, quiet_s=1.5, environment=environment
    )


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


def named_digest(file: Path) -> tuple[str, str]:
    """The SOPInstanceUID of a file, and the digest under which the node keeps it."""
    raw = file.read_bytes()
    ds = pydicom.dcmread(file, stop_before_pixels=True)
    start = 144 + ds.file_meta.FileMetaInformationGroupLength
    head = file_head(ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID)
    return ds.SOPInstanceUID, hashlib.sha256(head + raw[start:]).hexdigest()


def stored_digest(file: Path) -> str:
    """The digest under which the node keeps the data set of a file."""
    return named_digest(file)[1]
