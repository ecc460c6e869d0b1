"""A node's worklist in this process: its work items over HTTP, its engine by hand, its worker as a puppet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from websockets.sync.client import ClientConnection, connect

from dicomnode.config import Config
from dicomnode.dicomweb import events, ups
from dicomnode.dicomweb.app import Admission, WebSettings, create_app
from dicomnode.dicomweb.server import WebServer
from dicomnode.model.instance import StoredObject
from dicomnode.model.job import Job
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import check_rule
from dicomnode.services.completion import order_completion
from dicomnode.services.ingest import Ingest
from dicomnode.services.routing import RouteTable, RoutingService
from dicomnode.services.workitem_items import code, references
from dicomnode.services.workitem_progress import WorkList
from dicomnode.services.workitems import WorkItems
from dicomnode.store import deliveries, leases
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from tests.dicomweb.archive import received
from tests.harness.schema import upgraded

BASE = "/dicom-web"
SETTINGS = {
    "node": {"ae_title": "NODE"},
    "destination": [
        {"name": "pacs", "dimse": {"ae_title": "PACS", "host": "h", "port": 1}},
        {"name": "cloud", "web": {"url": "https://cloud.example/dicom-web"}, "confirm": "qido"},
    ],
    "route": [
        {"name": "mr", "when": 'series.modality == "MR"', "pipeline": "toy", "send_to": ["pacs"]},
    ],
}


@dataclass(frozen=True, slots=True)
class Node:
    """What the tests reach; `url` is the base URL of its services."""

    database: Database
    objects: ObjectStore
    registry: Registry
    config: Config
    url: str

    def receive(self, *datasets: Dataset, complete: bool = True) -> None:
        """Take instances in, and count their series as complete."""
        ingest = Ingest(self.database, self.objects)
        for ds in datasets:
            ingest.store(received(ds))
        if complete:
            order_completion(self.database, datasets[0].SeriesInstanceUID)

    def route(self) -> None:
        """What the engine does about completions."""
        RoutingService(self.database, self.objects, RouteTable(self.config), self.registry).tick()
        self.tick()

    @property
    def engine(self) -> WorkList:
        """What moves work items."""
        return WorkList(self.database, self.objects, RouteTable(self.config), self.registry, self.config)

    def tick(self) -> None:
        """What the engine does about work items."""
        self.engine.tick()

    def claim(self) -> Job:
        """A worker takes the next job."""
        with self.database.begin() as tx:
            job = leases.claim(tx, "worker", 60.0)
        assert job is not None
        self.tick()
        return job

    def finish(self, job: Job) -> str:
        """The worker is done; the SOPInstanceUID of the one result, sent where the job says."""
        uid = generate_uid(prefix=None)
        made = EncodedResult(
            ResultRole.SEG, job.StudyInstanceUID, generate_uid(prefix=None), "1.2.3", uid, "1.2.840", b"x"
        )
        stored = StoredObject(sha256(uid.encode()).hexdigest(), 1)
        with self.database.begin() as tx:
            for result_id in leases.finish(tx, job.lease, [(made, stored)]):
                for name in job.send_to:
                    deliveries.add(tx, result_id, name)
        self.tick()
        return uid

    def post(self, path: str, model: Any = None, **headers: str) -> httpx.Response:
        """A POST of a data set in JSON."""
        return self.ask("POST", path, model, **headers)

    def ask(self, method: str, path: str, model: Any = None, **headers: str) -> httpx.Response:
        """One request."""
        body = model if isinstance(model, bytes) else b"" if model is None else json.dumps(model).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.request(
            method,
            self.url + path,
            content=body,
            headers={"Content-Type": "application/dicom+json", **named},
            timeout=60,
        )

    def item(self, uid: str) -> Dataset:
        """A work item as it is retrieved."""
        answer = self.ask("GET", f"/workitems/{uid}", Accept="application/dicom+json")
        assert answer.status_code == 200, answer.text
        (model,) = answer.json()
        assert "00081195" not in model, "the Transaction UID is the performer's alone"
        return Dataset.from_json(model)

    def search(self, query: str = "") -> list[Dataset]:
        """The work items that match."""
        answer = self.ask("GET", f"/workitems?{query}")
        return [Dataset.from_json(model) for model in answer.json()] if answer.status_code == 200 else []

    def listen(self, ae_title: str) -> ClientConnection:
        """A subscriber's WebSocket."""
        return connect(f"{self.url.replace('http', 'ws')}/subscribers/{ae_title}", open_timeout=60)


def order(*inputs: tuple[str, str], pipeline: str = "toy", **changes: Any) -> dict[str, Any]:
    """A work item as somebody creates it, for these series; `changes` by keyword, None removes."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.TransactionUID = ""
    ds.PatientName, ds.PatientID = "Doe^Jané", "P1"
    ds.ScheduledProcedureStepPriority, ds.ProcedureStepState = "HIGH", "SCHEDULED"
    ds.ProcedureStepLabel, ds.WorklistLabel = "Bright tissue", "AI"
    ds.ScheduledProcedureStepStartDateTime = "20260101120000"
    ds.InputReadinessState = "READY"
    ds.ScheduledWorkitemCodeSequence = [code(pipeline, "99DICOMNODE", "Bright tissue")]
    ds.InputInformationSequence = [references(study, series, []) for study, series in inputs]
    request = Dataset()
    request.AccessionNumber = "A1"
    ds.ReferencedRequestSequence = [request]
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds.to_json_dict()


def report(socket: ClientConnection, limit_s: float = 30.0) -> tuple[str, int, Dataset]:
    """The next event report: the work item, the event type, and what it says."""
    model = json.loads(socket.recv(timeout=limit_s))
    for tag in ("00000002", "00000110", "00001000", "00001002"):
        assert len(model[tag]["Value"]) == 1
    content = {tag: value for tag, value in model.items() if not tag.startswith("0000")}
    return model["00001000"]["Value"][0], model["00001002"]["Value"][0], Dataset.from_json(content)


def states(socket: ClientConnection, uid: str, until: str) -> list[str]:
    """The states that a subscriber is told of one work item, up to one of them."""
    told: list[str] = []
    while not told or told[-1] != until:
        named, event, said = report(socket)
        if named == uid and event == 1:
            told.append(said.ProcedureStepState)
    return told


@contextmanager
def running(
    url: str, folder: Path, pipelines: Path, wrap: Callable[[Any], Any] = lambda it: it
) -> Iterator[Node]:
    """A node while the block runs; `url` is that of an empty database."""
    database, objects = upgraded(url), ObjectStore(folder, 0)
    config, registry = Config.model_validate(SETTINGS), Registry.open(pipelines, check_rule)
    items = wrap(WorkItems(database, registry, config))
    app = create_app(
        WebSettings(
            BASE,
            (Admission("*", ip_network("127.0.0.0/8")),),
            cors_origins=("https://viewer.example",),
        ),
        [*ups.routes(items), *events.routes(items)],
    )
    server = WebServer(app, "127.0.0.1", 0)
    server.start()
    try:
        yield Node(database, objects, registry, config, f"http://127.0.0.1:{server.port}{BASE}")
    finally:
        server.stop(5)
        database.close()
