"""A series that lost every seventh slice on its way, and archives that have all of it, and worse ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
from sqlalchemy import update

from dicomnode.config import CompletionSection
from dicomnode.dicomweb.client import WebClient, http_client
from dicomnode.dimse.sender import send
from dicomnode.errors import StorageFull
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance
from dicomnode.services.completion import CompletionService
from dicomnode.services.evidence import EvidenceService
from dicomnode.services.evidence_source import OnInstance, archive_by_dimse, archive_by_web
from dicomnode.store import catalog, completions, inquiries, listeners, overview
from dicomnode.store.clock import Now
from dicomnode.store.schema import instance, listener
from tests.dicomweb.archive import serving
from tests.dicomweb.services import WebArchive
from tests.dimse.archive import Archive as Node
from tests.dimse.archive import archive as running_node
from tests.dimse.nodes import small_ct, write
from tests.dimse.test_fetch import PEERS, dcmqrscp
from tests.peers import free_port, orthanc, orthanc_dicomweb, wait_for

SLICES = 21


@dataclass
class Case:
    """A node that got what was not lost, and the series as it is."""

    node: Node
    instances: list[OutgoingInstance]
    study: str
    series: str

    @property
    def lost(self) -> set[str]:
        return {one.SOPInstanceUID for one in self.instances[6::7]}

    def receive(self) -> None:
        """The sender has sent, and sends no more."""
        sent = [one for one in self.instances if one.SOPInstanceUID not in self.lost]
        require_all_sent(self.node.peer, sent, "CT1")

    def held(self) -> set[str]:
        with self.node.database.read() as tx:
            return catalog.held_instances(tx, 1)

    def completions(self, StudyInstanceUID: str = "") -> list[dict]:
        with self.node.database.read() as tx:
            (found,) = overview.studies(tx, StudyInstanceUID or self.study)
        return found["series"][0]["completions"]


def require_all_sent(peer: Peer, instances: Sequence[OutgoingInstance], calling_ae: str = "CT1") -> None:
    errors: list[object] = []
    send(peer, calling_ae, instances, lambda _, error: errors.append(error))
    assert errors == [None] * len(instances)


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    study, series = generate_uid(), generate_uid()
    (tmp_path / "sent").mkdir()
    instances = [
        write(small_ct(StudyInstanceUID=study, SeriesInstanceUID=series), tmp_path / "sent")
        for _ in range(SLICES)
    ]
    with running_node(tmp_path, called_ae_titles=("NODE",)) as node:
        with node.database.begin() as tx:
            listeners.begin(tx, "test")
            tx.execute(listener.update().values(since=Now(-3600)))
        yield Case(node, instances, str(study), str(series))


def services(
    case: Case, peer: Peer, on_instance: OnInstance | None = None, limit_s: float = 3600.0
) -> tuple[CompletionService, EvidenceService]:
    settings = CompletionSection(quiet_s=0.01, missing_wait_s=0.01, ask="pacs", ask_limit_s=limit_s)
    archive = archive_by_dimse("pacs", peer, "NODE", on_instance or case.node.ingest.store)
    return CompletionService(case.node.database, settings), EvidenceService(case.node.database, archive)


def tick_until_complete(completion: CompletionService, evidence: EvidenceService, case: Case) -> dict:
    def done() -> bool:
        completion.tick()
        evidence.tick()
        return bool(case.completions())

    wait_for(done, 30)
    (completed,) = case.completions()
    return completed


@PEERS
def test_what_was_lost_is_fetched_and_the_series_is_complete_at_once(
    case: Case, tmp_path: Path, archive_of
) -> None:
    case.receive()
    with archive_of(tmp_path, case.node.peer) as peer:
        require_all_sent(peer, case.instances)
        completed = tick_until_complete(*services(case, peer), case)
    assert completed["reason"] == "listed"
    assert completed["note"] == "pacs lists these 21 instances, 3 of which were fetched"
    assert completed["instance_count"] == SLICES
    with case.node.database.begin() as tx:
        (routed,) = completions.unrouted(tx)
    assert routed.association.calling_ae == "CT1"


@PEERS
def test_what_has_left_the_node_is_fetched_again_when_a_late_instance_comes(
    case: Case, tmp_path: Path, archive_of
) -> None:
    case.receive()
    with case.node.database.begin() as tx:
        tx.execute(update(instance).values(released_at=Now(), removed_at=Now()))
    assert case.held() == set()
    with archive_of(tmp_path, case.node.peer) as peer:
        require_all_sent(peer, case.instances)
        completed = tick_until_complete(*services(case, peer), case)
    assert (completed["reason"], completed["instance_count"]) == ("listed", SLICES)
    assert case.held() == {one.SOPInstanceUID for one in case.instances}


@contextmanager
def archive(
    answers: dict[str, Callable[[Event], Iterator[object]]], accepts_get: bool = True
) -> Iterator[Peer]:
    """A pynetdicom archive of our own making: one that behaves badly."""
    ae = AE("PACS")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    if accepts_get:
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
        ae.add_supported_context(CTImageStorage, scu_role=True, scp_role=True)
    events = {"find": evt.EVT_C_FIND, "get": evt.EVT_C_GET, "move": evt.EVT_C_MOVE}
    handlers = [(events[name], answer) for name, answer in answers.items()]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield Peer("PACS", "127.0.0.1", server.server_address[1], response_timeout_s=5.0)
    finally:
        server.shutdown()


def listing(*uids: str) -> Callable[[Event], Iterator[object]]:
    def answer(event: Event) -> Iterator[object]:
        for uid in uids:
            ds = Dataset()
            ds.QueryRetrieveLevel = "IMAGE"
            ds.SeriesInstanceUID = event.identifier.SeriesInstanceUID
            ds.SOPInstanceUID = uid
            yield 0xFF00, ds

    return answer


def refusing(_: Event) -> Iterator[object]:
    """No sub-operation at all, and a failure at its end (PS3.4 C.4.3.1.4)."""
    yield 0
    yield 0xA701, None


def unknown_destination(_: Event) -> Iterator[object]:
    yield None, None


def test_an_archive_without_c_get_sends_by_c_move(case: Case) -> None:
    case.receive()
    by_uid = {one.SOPInstanceUID: one for one in case.instances}
    asked: list[str] = []

    def move(event: Event) -> Iterator[object]:
        asked.append(event.move_destination)
        yield "127.0.0.1", case.node.peer.port, {"contexts": [build_context(CTImageStorage)]}
        wanted = [str(uid) for uid in event.identifier.SOPInstanceUID]
        yield len(wanted)
        for uid in wanted:
            yield 0xFF00, dcmread(by_uid[uid].path)

    with archive({"find": listing(*by_uid), "move": move}, accepts_get=False) as peer:
        completed = tick_until_complete(*services(case, peer), case)
    assert (completed["reason"], completed["instance_count"]) == ("listed", SLICES)
    assert asked == ["NODE"]


def by_web(case: Case, url: str, limit_s: float = 3600.0) -> tuple[CompletionService, EvidenceService]:
    settings = CompletionSection(quiet_s=0.01, missing_wait_s=0.01, ask="pacs", ask_limit_s=limit_s)
    archive = archive_by_web("pacs", WebClient(url, http_client(5.0, 20.0)), "NODE", case.node.ingest)
    return CompletionService(case.node.database, settings), EvidenceService(case.node.database, archive)


def test_an_archive_that_speaks_dicomweb_is_asked_by_qido_and_gives_by_wado(
    case: Case, tmp_path: Path
) -> None:
    case.receive()
    datasets = [dcmread(one.path) for one in case.instances]
    with serving(f"sqlite:///{tmp_path / 'web.sqlite3'}", tmp_path / "web", datasets) as web:
        completed = tick_until_complete(*by_web(case, web.url), case)
    assert (completed["reason"], completed["instance_count"]) == ("listed", SLICES)


def test_an_orthanc_that_speaks_dicomweb_is_asked_by_qido_and_gives_by_wado(
    case: Case, tmp_path: Path
) -> None:
    case.receive()
    port = free_port()
    with orthanc(tmp_path / "orthanc", **orthanc_dicomweb("http://127.0.0.1", port)) as peer:
        require_all_sent(peer, case.instances)
        completed = tick_until_complete(*by_web(case, f"http://127.0.0.1:{port}/dicom-web"), case)
    assert (completed["reason"], completed["instance_count"]) == ("listed", SLICES)


def test_a_service_that_lists_and_does_not_give_is_waited_for_and_the_completion_says_so(case: Case) -> None:
    case.receive()
    web = WebArchive()
    web.series = {one.SOPInstanceUID: case.series for one in case.instances}
    web.on_search = lambda: None if "?" in web.requests[-1][1] else (404, None)
    try:
        completed = tick_until_complete(*by_web(case, web.url, limit_s=0.5), case)
    finally:
        web.close()
    assert completed["reason"] == "missing"
    assert completed["note"].startswith("pacs lists 21 instances, 3 of which are not here: ")
    assert len(case.held()) == SLICES - 3


def test_an_archive_that_lists_and_cannot_give_is_waited_for_and_the_completion_says_so(case: Case) -> None:
    case.receive()
    answers = {
        "find": listing(*(one.SOPInstanceUID for one in case.instances)),
        "get": refusing,
        "move": unknown_destination,
    }
    with archive(answers) as peer:
        completed = tick_until_complete(*services(case, peer, limit_s=1.0), case)
    assert completed["reason"] == "missing"
    assert completed["note"].startswith("pacs lists 21 instances, 3 of which are not here: ")
    assert completed["instance_count"] == SLICES - 3


def test_an_archive_that_lists_other_instances_completes_nothing_before_its_limit(case: Case) -> None:
    case.receive()
    answers = {"find": listing("1.2.3", "1.2.4"), "get": refusing, "move": unknown_destination}
    with archive(answers) as peer:
        completed = tick_until_complete(*services(case, peer, limit_s=0.5), case)
    assert completed["reason"] == "missing"
    assert completed["note"].startswith("pacs lists 2 instances, 2 of which are not here")


def test_an_archive_that_knows_nothing_of_the_series_leaves_it_to_the_silence(case: Case) -> None:
    case.receive()
    with archive({"find": listing()}) as peer:
        completed = tick_until_complete(*services(case, peer), case)
    assert (completed["reason"], completed["note"]) == ("quiet", "pacs lists 0 of these 18 instances")


def test_an_archive_that_is_down_costs_no_more_than_the_limit(case: Case) -> None:
    case.receive()
    nobody = Peer("PACS", "127.0.0.1", free_port(), 1.0, 1.0)
    completed = tick_until_complete(*services(case, nobody, limit_s=0.5), case)
    assert completed["reason"] == "quiet"
    assert completed["note"].startswith("pacs could not be asked")


def test_a_slow_answer_holds_up_its_own_series_to_the_limit_and_no_other_one(case: Case) -> None:
    case.receive()
    asked, answer = threading.Event(), threading.Event()

    def slow_about_the_first(event: Event) -> Iterator[object]:
        uids = [one.SOPInstanceUID for one in case.instances]
        if event.identifier.SeriesInstanceUID == case.series:
            asked.set()
            answer.wait(20)
        else:
            uids = [other.SOPInstanceUID]
        yield from listing(*uids)(event)

    with archive({"find": slow_about_the_first}) as peer:
        completion, evidence = services(case, peer, limit_s=2.0)
        wait_for(lambda: completion.tick() or inquiries_open(case))
        asking = threading.Thread(target=evidence.tick)
        asking.start()
        assert asked.wait(20)
        (other,) = case.node.keep_study("P2", series=1, instances=1)
        wait_for(lambda: completion.tick() or evidence.tick())
        assert [one["reason"] for one in case.completions(other.StudyInstanceUID)] == ["listed"]
        assert case.completions() == []
        wait_for(completion.tick, 20)
        answer.set()
        asking.join(20)
    (completed,) = case.completions()
    assert (completed["reason"], completed["note"]) == ("quiet", "pacs did not answer in time")
    assert len(case.held()) == SLICES - 3


def inquiries_open(case: Case) -> int:
    with case.node.database.read() as tx:
        return int(tx.exec_driver_sql("SELECT count(*) FROM inquiry WHERE state = 'asking'").scalar_one())


def test_a_full_disk_is_answered_to_the_archive_and_what_it_refused_is_fetched_later(
    case: Case, tmp_path: Path
) -> None:
    case.receive()
    refused: list[str] = []

    def keep(received) -> object:
        if len(refused) < 2:
            refused.append(received.SOPInstanceUID)
            raise StorageFull(1, 2)
        return case.node.ingest.store(received)

    with orthanc(tmp_path / "orthanc", DicomAlwaysAllowGet=True) as peer:
        require_all_sent(peer, case.instances)
        completed = tick_until_complete(*services(case, peer, keep), case)
    assert len(refused) == 2
    assert (completed["reason"], completed["instance_count"]) == ("listed", SLICES)


def test_what_was_fetched_before_a_stop_is_not_fetched_again(case: Case, tmp_path: Path) -> None:
    case.receive()
    fetched: list[str] = []

    def keep(received) -> object:
        fetched.append(received.SOPInstanceUID)
        return case.node.ingest.store(received)

    with dcmqrscp(tmp_path, case.node.peer) as peer:
        require_all_sent(peer, case.instances)
        completion, evidence = services(case, peer, keep)
        wait_for(lambda: completion.tick() or inquiries_open(case))
        evidence.tick(lambda: True)
        assert not fetched
        assert case.completions() == []
        with case.node.database.begin() as tx:
            tx.exec_driver_sql("UPDATE inquiry SET not_before = begun_at")
        evidence.tick()
    assert set(fetched) == case.lost
    assert len(fetched) == len(case.lost)
    assert case.completions()[0]["reason"] == "listed"
    with case.node.database.begin() as tx:
        assert inquiries.claim(tx, 1) is None
