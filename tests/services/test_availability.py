"""Peers hear by Instance Availability Notification of results that are all confirmed; before pynetdicom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import InstanceAvailabilityNotification

from dicomnode.config import DeliverySection
from dicomnode.dimse.ian import announce
from dicomnode.model.peer import Peer
from dicomnode.services.availability import AvailabilityService
from dicomnode.store import deliveries, overview
from dicomnode.store.database import Database
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, send_files, wait_for
from tests.harness.schema import upgraded
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.peers import free_port, orthanc
from tests.store.builders import finished_job


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = upgraded(database_url)
    yield database
    database.close()


@dataclass
class Listener:
    """A peer that writes down what it is told, and answers what a test says."""

    heard: list[tuple[str, Dataset]] = field(default_factory=list)
    status: Callable[[], int] = lambda: 0x0000

    def __post_init__(self) -> None:
        ae = AE("RIS")
        ae.add_supported_context(InstanceAvailabilityNotification)
        self._lock = threading.Lock()
        handlers = [(evt.EVT_N_CREATE, self._hear)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.peer = Peer("RIS", "127.0.0.1", self.server.server_address[1], response_timeout_s=20.0)

    def _hear(self, event: Event) -> tuple[int, None]:
        with self._lock:
            self.heard.append((str(event.request.AffectedSOPInstanceUID), event.attribute_list))
        return self.status(), None


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.server.shutdown()


def service(
    database: Database, peer: Peer, announce_to: tuple[str, ...] = ("RIS",), **settings: float
) -> AvailabilityService:
    def tell(_: str, *told: object) -> None:
        partial(announce, peer, "NODE")(*told)

    section = DeliverySection(announce_to=announce_to, backoff_s=0.01, backoff_limit_s=0.01, **settings)
    return AvailabilityService(database, section, {"pacs": "PACS"}, tell)


def confirm(database: Database, results: int) -> None:
    """The archive takes and confirms that many of what is due."""
    with database.begin() as tx:
        for delivery in deliveries.claim(tx, "pacs", 60, str)[:results]:
            deliveries.accept(tx, delivery.lease, check_after_s=0)
    with database.begin() as tx:
        for delivery in deliveries.claim_checks(tx, "pacs", 60, 60, str):
            deliveries.confirm(tx, delivery.lease)


def states(database: Database) -> dict[str, int]:
    with database.read() as tx:
        announced: dict[str, int] = overview.counts(tx)["announcements"]
    return announced


def test_a_peer_hears_once_of_results_that_are_all_confirmed(database: Database, listener: Listener) -> None:
    finished_job(database, results=2)
    told = service(database, listener.peer)
    confirm(database, 1)
    assert told.tick() == 0
    with database.begin() as tx:
        tx.exec_driver_sql("UPDATE delivery SET state = 'pending' WHERE state = 'sending'")
    confirm(database, 1)
    assert told.tick() == 1
    assert told.tick() == 0
    ((uid, ds),) = listener.heard
    assert uid.startswith("2.25.")
    assert ds.StudyInstanceUID == "1.2.3"
    assert list(ds.ReferencedPerformedProcedureStepSequence) == []
    references = [one for series in ds.ReferencedSeriesSequence for one in series.ReferencedSOPSequence]
    assert [one.ReferencedSOPInstanceUID for one in references] == ["2.25.1.1", "2.25.2.1"]
    assert {(one.InstanceAvailability, one.RetrieveAETitle) for one in references} == {("ONLINE", "PACS")}
    assert states(database) == {"told": 1}


def test_a_peer_that_is_down_hears_later_and_with_the_same_uid(
    database: Database, listener: Listener
) -> None:
    finished_job(database)
    confirm(database, 1)
    nobody = Peer("RIS", "127.0.0.1", free_port(), 1.0, 1.0)
    assert service(database, nobody).tick() == 1
    assert states(database) == {"ready": 1}
    answers = iter([0x0110, 0x0111])
    listener.status = lambda: next(answers)
    told = service(database, listener.peer)
    while states(database) != {"told": 1}:
        told.tick()
    first, second = listener.heard
    assert first[0] == second[0]


def test_a_peer_that_is_down_for_too_long_is_given_up(database: Database) -> None:
    finished_job(database)
    confirm(database, 1)
    nobody = Peer("RIS", "127.0.0.1", free_port(), 1.0, 1.0)
    service(database, nobody, give_up_after_h=1e-9).tick()
    assert states(database) == {"dead": 1}


def test_whoever_is_named_later_hears_nothing_of_the_past(database: Database, listener: Listener) -> None:
    finished_job(database)
    confirm(database, 1)
    assert service(database, listener.peer, announce_to=()).tick() == 0
    assert service(database, listener.peer).tick() == 0
    assert listener.heard == []


def test_a_node_tells_a_peer_of_what_its_archive_has_confirmed(tmp_path: Path, listener: Listener) -> None:
    write_toy_pipeline(tmp_path / "pipelines")
    files = write_series(tmp_path / "series", small_series())
    with orthanc(tmp_path / "orthanc", OverwriteInstances=True) as archive:
        routes = f"""
[[peer]]
ae_title = "RIS"
host = "127.0.0.1"
port = {listener.peer.port}
[[destination]]
name = "archive"
dimse = {{ ae_title = "ORTHANC", host = "127.0.0.1", port = {archive.port} }}
[[route]]
name = "toy"
when = 'series.modality == "MR"'
pipeline = "toy"
send_to = ["archive"]
"""
        node = RunningNode(tmp_path / "node", pipelines=tmp_path / "pipelines", routes=routes)
        told = 'report_limit_s = 900.0\nannounce_to = ["RIS"]\n'
        node.config.write_text(node.config.read_text().replace("[delivery]\n", f"[delivery]\n{told}"))
        node.start()
        try:
            send_files(node.peer, files)
            wait_for("the notification", lambda: node.status()["announcements"] == {"told": 1}, 150)
            assert node.status()["deliveries"] == {"confirmed": 2}
        finally:
            node.kill()
    ((_, ds),) = listener.heard
    assert ds.StudyInstanceUID == dcmread(files[0]).StudyInstanceUID
    assert len(ds.ReferencedSeriesSequence) == 2
