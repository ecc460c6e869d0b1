"""Storage commitment, before pynetdicom peers: as provider for a scanner, as user towards an archive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import MRImageStorage, StorageCommitmentPushModel

from dicomnode.config import DeliverySection, Destination
from dicomnode.dimse.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, commitment, report
from dicomnode.dimse.receiver import Receiver
from dicomnode.errors import AssociationFailed
from dicomnode.model.commitment import CommitmentReport
from dicomnode.model.instance import StoredObject
from dicomnode.model.peer import Peer
from dicomnode.services.commitment import CommitmentProvider, CommitmentReports
from dicomnode.services.destinations import courier_for
from dicomnode.store import catalog, deliveries, leases, overview
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from tests.dimse.nodes import SETTINGS
from tests.harness.heads import small_series
from tests.harness.schema import upgraded
from tests.peers import wait_for
from tests.services.test_delivery import encoded as as_result
from tests.store.builders import arrival, complete_series, new_job

SETTINGS_OF_DELIVERY = DeliverySection(backoff_s=0.01, backoff_limit_s=0.05, report_wait_s=0.0)
MR = "1.2.840.10008.5.1.4.1.1.4"


@dataclass
class Node:
    """A receiver with the commitment service, and the stores under it."""

    database: Database
    objects: ObjectStore
    settings: DeliverySection = SETTINGS_OF_DELIVERY
    receiver: Receiver = field(init=False)
    provider: CommitmentProvider = field(init=False)

    def __post_init__(self) -> None:
        self.provider = CommitmentProvider(self.database, self.objects, self.settings)
        reports = CommitmentReports(self.database, self.settings)
        self.receiver = Receiver(SETTINGS, [commitment(self.provider.take, reports.take)])
        self.receiver.start()

    @property
    def peer(self) -> Peer:
        return Peer("DICOMNODE", "127.0.0.1", self.receiver.port, response_timeout_s=20.0)

    def keep(self, number: int = 1) -> StoredObject:
        """Instance `1.2.3.4.<number>` with an object of its own."""
        stored = self.objects.put(b"instance %d" % number)
        with self.database.begin() as tx:
            catalog.add_instance(tx, replace(arrival(number), stored=stored))
        return stored

    def events(self) -> list[str]:
        with self.database.read() as tx:
            return list(tx.exec_driver_sql("SELECT event FROM commitment_event ORDER BY id").scalars())


@pytest.fixture
def node(tmp_path) -> Iterator[Node]:
    database = upgraded(f"sqlite:///{tmp_path / 'd.sqlite3'}")
    node = Node(database, ObjectStore(tmp_path, 0))
    yield node
    node.provider.close()
    node.receiver.stop(0.5)
    database.close()


def info(*uids: str, TransactionUID: str | None = None, SOPClassUID: str = MR) -> Dataset:
    ds = Dataset()
    ds.TransactionUID = TransactionUID or generate_uid()
    ds.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SOPClassUID, uid
        ds.ReferencedSOPSequence.append(item)
    return ds


class Scanner:
    """Asks for commitment, and takes reports on its association and on a port of its own."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self.on_own_port: list[str] = []
        self.answer = 0x0000
        ae = AE("CT1")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self.server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._on_own_port)]
        )
        self.peer = Peer("CT1", "127.0.0.1", self.server.server_address[1], response_timeout_s=20.0)

    def _on_own_port(self, event: evt.Event) -> tuple[int, None]:
        if self.answer == 0x0000:
            self.on_own_port.append(str(event.event_information.TransactionUID))
        return self._take(event)

    def _take(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        return self.answer, None

    def ask(
        self, node: Node, ds: Dataset, *, wait: bool, action: int = 1, instance: str = PUSH_MODEL_INSTANCE
    ) -> int:
        ae = AE("CT1")
        ae.add_requested_context(StorageCommitmentPushModel)
        assoc = ae.associate(
            "127.0.0.1",
            node.receiver.port,
            ae_title="DICOMNODE",
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)],
        )
        before = len(self.reports)
        response, _ = assoc.send_n_action(ds, action, PUSH_MODEL, instance)
        if wait:
            wait_for(lambda: len(self.reports) > before)
            assoc.release()
        else:
            assoc.abort()
        return int(response.Status)

    def said(self, number: int = -1) -> tuple[set[str], dict[str, int]]:
        """What the report says: committed, and failed with its reason."""
        event, ds = self.reports[number]
        committed = {item.ReferencedSOPInstanceUID for item in ds.get("ReferencedSOPSequence", [])}
        failures = {
            item.ReferencedSOPInstanceUID: item.FailureReason for item in ds.get("FailedSOPSequence", [])
        }
        assert event == (2 if failures else 1)
        return committed, failures

    def report_to(self, ae_title: str, said: CommitmentReport) -> None:
        assert ae_title == "CT1"
        report(self.peer, "DICOMNODE", said)


@pytest.fixture
def scanner() -> Iterator[Scanner]:
    scanner = Scanner()
    yield scanner
    scanner.server.shutdown()


def test_what_is_kept_is_reported_as_committed_on_the_association_that_asked(node, scanner):
    node.keep(1)
    node.keep(2)
    assert scanner.ask(node, info("1.2.3.4.1", "1.2.3.4.2"), wait=True) == 0x0000
    assert scanner.said() == ({"1.2.3.4.1", "1.2.3.4.2"}, {})
    wait_for(lambda: node.events()[-1] == "report")
    assert node.provider.tick(scanner.report_to) == 0


def test_what_is_not_there_or_not_what_it_was_is_reported_with_its_reason(node, scanner):
    node.keep(1)
    changed = node.objects.path(node.keep(2).sha256)
    changed.chmod(0o600)
    changed.write_bytes(b"instance ?")
    scanner.ask(node, info("1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3"), wait=True)
    assert scanner.said() == ({"1.2.3.4.1"}, {"1.2.3.4.2": 0x0112, "1.2.3.4.3": 0x0112})
    scanner.ask(node, info("1.2.3.4.1", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), wait=True)
    assert scanner.said() == (set(), {"1.2.3.4.1": 0x0119})


def test_who_hangs_up_gets_the_report_on_a_new_association_until_it_takes_it(node, scanner):
    node.keep(1)
    ds = info("1.2.3.4.1")
    assert scanner.ask(node, ds, wait=False) == 0x0000

    def unreachable(*_: object) -> None:
        raise AssociationFailed("nobody there")

    wait_for(lambda: node.provider.tick(unreachable))
    scanner.answer = 0x0110
    wait_for(lambda: node.provider.tick(scanner.report_to))
    assert node.events()[-1] == "fail"
    assert scanner.on_own_port == []
    scanner.answer = 0x0000
    wait_for(lambda: node.provider.tick(scanner.report_to))
    assert scanner.on_own_port == [ds.TransactionUID]
    assert scanner.said() == ({"1.2.3.4.1"}, {})
    assert node.events()[-1] == "report"


def test_a_request_that_is_repeated_is_reported_again_and_its_uid_serves_no_other(node, scanner):
    node.keep(1)
    ds = info("1.2.3.4.1")
    scanner.ask(node, ds, wait=True)
    wait_for(lambda: node.events()[-1] == "report")
    scanner.ask(node, ds, wait=True)
    assert len(scanner.reports) == 2
    other = info("1.2.3.4.2", TransactionUID=ds.TransactionUID)
    assert scanner.ask(node, other, wait=False) == 0x0131


@pytest.mark.parametrize(
    ("changes", "ds", "status"),
    [
        ({"action": 2}, info("1.2"), 0x0123),
        ({"instance": "1.2.3"}, info("1.2"), 0x0112),
        ({}, info(), 0x0115),
        ({}, info("1.2", TransactionUID="1.2.x"), 0x0115),
        ({}, info("no uid"), 0x0115),
    ],
)
def test_what_is_no_request_is_refused_and_not_written_down(node, scanner, changes, ds, status):
    assert scanner.ask(node, ds, wait=False, **changes) == status
    assert node.events() == []


class Archive:
    """Takes results and commitment requests; a test says what becomes of them."""

    def __init__(self, reports_to: Callable[[], Peer] | None) -> None:
        self.asked: list[Dataset] = []
        self.stored: list[str] = []
        self.missing: set[str] = set()
        self.on_request: Callable[[], object] = lambda: None
        self.status = 0x0000
        self._reports_to = reports_to
        ae = AE("PACS")
        ae.add_supported_context("1.2.840.10008.5.1.4.1.1.66.4")
        ae.add_supported_context(MRImageStorage)
        ae.add_supported_context(StorageCommitmentPushModel)
        self.server = ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._take)],
        )
        self.port = self.server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _take(self, event: evt.Event) -> tuple[int, None]:
        self.on_request()
        self.asked.append(event.action_information)
        if self._reports_to is None and self.status == 0x0000:
            threading.Thread(target=self.report, args=(event.action_information, event.assoc)).start()
        return self.status, None

    def report(self, asked: Dataset, assoc=None) -> int:
        """On `assoc`, or on a new association."""
        said = Dataset()
        said.TransactionUID = asked.TransactionUID
        said.ReferencedSOPSequence, said.FailedSOPSequence = [], []
        for item in asked.ReferencedSOPSequence:
            if item.ReferencedSOPInstanceUID in self.missing:
                failed = Dataset()
                failed.update(item)
                failed.FailureReason = 0x0112
                said.FailedSOPSequence.append(failed)
            else:
                said.ReferencedSOPSequence.append(item)
        event = 2 if said.FailedSOPSequence else 1
        if assoc is not None:
            return assoc.send_n_event_report(said, event, PUSH_MODEL, PUSH_MODEL_INSTANCE)[0].Status
        peer = self._reports_to()
        ae = AE("PACS")
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        assoc = ae.associate(peer.host, peer.port, ae_title=peer.ae_title, ext_neg=[role])
        try:
            return assoc.send_n_event_report(said, event, PUSH_MODEL, PUSH_MODEL_INSTANCE)[0].Status
        finally:
            assoc.release()


@pytest.fixture
def start_archive(node) -> Iterator[Callable[..., SimpleNamespace]]:
    """An archive, and a courier that serves it, with one result that is due."""
    archives: list[Archive] = []

    def start(*, on_same: bool, **settings: object) -> SimpleNamespace:
        archive = Archive(None if on_same else lambda: node.peer)
        archives.append(archive)
        destination = Destination.model_validate(
            {
                "name": "pacs",
                "confirm": "commitment",
                "dimse": {"ae_title": "PACS", "host": "127.0.0.1", "port": archive.port},
            }
        )
        chosen = SETTINGS_OF_DELIVERY.model_copy(update=settings)
        courier = courier_for(node.database, node.objects, destination, "DICOMNODE", chosen)
        return SimpleNamespace(archive=archive, courier=courier, uid=due_result(node))

    yield start
    for archive in archives:
        archive.server.shutdown()


def due_result(node: Node) -> str:
    made = as_result(small_series(1)[0])
    completion_id = complete_series(node.database)
    with node.database.begin() as tx:
        new_job(tx, completion_id)
        job = leases.claim(tx, "w1", 30)
        for result_id in leases.finish(tx, job.lease, [(made, node.objects.put(made.data))]):
            deliveries.add(tx, result_id, "pacs")
    return made.SOPInstanceUID


def state(node: Node) -> str:
    with node.database.read() as tx:
        return str(overview.deliveries(tx)[0]["state"])


def make_due(node: Node) -> None:
    """What would be asked about later is asked about now."""
    with node.database.begin() as tx:
        tx.exec_driver_sql("UPDATE delivery SET not_before = '2020-01-01 00:00:00.000000'")


def test_a_result_is_confirmed_by_a_report_on_the_association_that_asked(node, start_archive):
    scene = start_archive(on_same=True, report_wait_s=20.0)
    wait_for(lambda: scene.courier.tick() and scene.archive.asked)
    assert state(node) == "confirmed"
    assert node.events() == ["create", "report"]


def test_a_result_is_confirmed_by_a_report_on_a_new_association_to_our_receiver(node, start_archive):
    scene = start_archive(on_same=False)
    wait_for(lambda: scene.courier.tick() and scene.archive.asked)
    assert state(node) == "sent"
    assert scene.archive.report(scene.archive.asked[0]) == 0x0000
    assert state(node) == "confirmed"
    assert scene.archive.report(scene.archive.asked[0]) == 0x0000
    assert node.events() == ["create", "accept", "report"]


def test_what_the_archive_does_not_have_is_sent_again_and_then_confirmed(node, start_archive):
    scene = start_archive(on_same=False)
    scene.archive.missing = {scene.uid}
    wait_for(lambda: scene.courier.tick() and scene.archive.asked)
    assert scene.archive.report(scene.archive.asked[0]) == 0x0000
    assert state(node) == "retry_wait"
    scene.archive.missing = set()
    wait_for(lambda: scene.courier.tick() and len(scene.archive.asked) == 2)
    assert scene.archive.stored == [scene.uid] * 2
    scene.archive.report(scene.archive.asked[1])
    assert state(node) == "confirmed"


def test_a_report_that_never_comes_is_asked_for_anew_and_a_late_one_is_still_true(node, start_archive):
    scene = start_archive(on_same=False)
    wait_for(lambda: scene.courier.tick() and scene.archive.asked)
    assert scene.courier.tick() == 0
    make_due(node)
    assert scene.courier.tick() == 1
    first, second = scene.archive.asked
    assert first.TransactionUID != second.TransactionUID
    scene.archive.missing = {scene.uid}
    assert scene.archive.report(first) == 0x0000
    assert state(node) == "sent", "a failure is about the question that was asked last"
    scene.archive.missing = set()
    make_due(node)
    scene.courier.tick()
    assert scene.archive.report(second) == 0x0000
    assert state(node) == "confirmed"


def test_an_archive_that_refuses_to_commit_itself_is_asked_again_until_it_is_too_late(node, start_archive):
    scene = start_archive(on_same=False, give_up_after_h=1.0)
    scene.archive.status = 0x0213
    wait_for(lambda: scene.courier.tick() and scene.archive.asked)
    assert node.events() == ["create", "refuse"]
    with node.database.begin() as tx:
        tx.exec_driver_sql("UPDATE delivery SET created_at = '2020-01-01 00:00:00.000000'")
    make_due(node)
    scene.courier.tick()
    assert state(node) == "dead"


def test_what_is_asked_is_written_down_before_it_is_asked(node, start_archive):
    scene = start_archive(on_same=False)
    written: list[list[str]] = []
    scene.archive.on_request = lambda: written.append(node.events())
    wait_for(lambda: scene.courier.tick() and scene.archive.asked)
    assert written == [["create"]]


def test_a_report_on_a_transaction_that_was_not_ours_is_refused(start_archive):
    scene = start_archive(on_same=False)
    assert scene.archive.report(info("1.2.3")) == 0x0112
