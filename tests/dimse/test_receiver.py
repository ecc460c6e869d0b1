"""The receiver, called by pynetdicom."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MRImageStorage,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find
from pynetdicom.sop_class import Verification

from dicomnode.dimse.receiver import AcceptRule
from dicomnode.dimse.sender import echo, send
from dicomnode.dimse.status import STATUS, status_of
from dicomnode.errors import (
    DicomnodeError,
    DiskFailed,
    DuplicateDiffers,
    InvalidUID,
    LeaseLost,
    NotDicom,
    QueryRefused,
    StorageFailed,
    StorageFull,
    UIDMismatch,
)
from dicomnode.model.instance import Received
from dicomnode.model.peer import Peer
from tests.dimse.nodes import Node, StartNode, dataset_bytes, small_ct, write
from tests.peers import wait_for

LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"


def associate(
    node: Node, *contexts: tuple[str, list[str]], calling: str = "CT1", called: str = "DICOMNODE"
) -> Association:
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    for abstract, syntaxes in contexts or [(Verification, [ImplicitVRLittleEndian])]:
        ae.add_requested_context(abstract, syntaxes)
    return ae.associate("127.0.0.1", node.receiver.port, ae_title=called)


def store(node: Node, ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> int:
    assoc = associate(node, (ds.SOPClassUID, [syntax]))
    ds.file_meta = Dataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    status = assoc.send_c_store(ds).Status
    assoc.release()
    return status


def rejection(assoc: Association) -> tuple[int, int, int]:
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def test_it_answers_echo(start_node: StartNode) -> None:
    echo(start_node().peer, "CT1")


def test_it_says_who_brought_what(start_node: StartNode) -> None:
    node = start_node()
    ds = small_ct()
    assert store(node, ds) == 0x0000
    [received] = node.received
    assert (received.SOPClassUID, received.SOPInstanceUID) == (ds.SOPClassUID, ds.SOPInstanceUID)
    assert received.TransferSyntaxUID == ExplicitVRLittleEndian
    assert type(received.SOPClassUID) is type(received.TransferSyntaxUID) is str
    facts = received.association
    assert (facts.calling_ae, facts.called_ae, facts.address) == ("CT1", "DICOMNODE", "127.0.0.1")
    assert node.associations == [facts]
    assert len(facts.key) == 32


def test_each_association_has_its_own_key(start_node: StartNode) -> None:
    node = start_node()
    store(node, small_ct())
    store(node, small_ct())
    assert len({received.association.key for received in node.received}) == 2


def test_parallel_associations_all_arrive(start_node: StartNode, tmp_path) -> None:
    node = start_node()
    batches = [[write(small_ct(), tmp_path) for _ in range(5)] for _ in range(6)]
    outcomes: list[object] = []
    threads = [
        threading.Thread(
            target=send, args=(node.peer, f"CT{n}", batch, lambda _, error: outcomes.append(error))
        )
        for n, batch in enumerate(batches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [None] * 30
    sent = {instance.SOPInstanceUID: dataset_bytes(instance.path) for batch in batches for instance in batch}
    assert {received.SOPInstanceUID: received.data for received in node.received} == sent
    assert len({received.association.key for received in node.received}) == 6


def test_a_wrong_called_ae_title_is_rejected(start_node: StartNode) -> None:
    assert rejection(associate(start_node(), called="OTHER")) == (1, 1, 7)


def test_a_further_called_ae_title_is_accepted(start_node: StartNode) -> None:
    assoc = associate(start_node(called_ae_titles=("OTHER",)), called="OTHER")
    assert assoc.is_established
    assoc.release()


@pytest.mark.parametrize(
    ("ae_title", "network"),
    [("CT2", "127.0.0.0/8"), ("CT1", "10.0.0.0/8"), ("*", "10.0.0.0/8"), ("*", "::/0")],
)
def test_a_caller_whose_title_or_address_is_unknown_is_rejected(
    start_node: StartNode, ae_title: str, network: str
) -> None:
    node = start_node(accept=(AcceptRule(ae_title, ip_network(network)),))
    assert rejection(associate(node)) == (1, 1, 3)
    assert node.associations == []


def test_title_and_address_must_come_from_the_same_rule(start_node: StartNode) -> None:
    rules = (AcceptRule("CT1", ip_network("10.0.0.0/8")), AcceptRule("CT2", ip_network("127.0.0.0/8")))
    node = start_node(accept=rules)
    assert rejection(associate(node)) == (1, 1, 3)
    assoc = associate(node, calling="CT2")
    assert assoc.is_established
    assoc.release()


def test_too_many_associations_are_rejected_until_one_has_ended(start_node: StartNode) -> None:
    node = start_node(maximum_associations=1)
    first = associate(node)
    assert rejection(associate(node)) == (2, 3, 2)
    first.release()
    again = associate(node)
    assert again.is_established
    again.release()


def test_a_silent_tcp_peer_blocks_nobody(start_node: StartNode) -> None:
    node = start_node(maximum_associations=2)
    silent = [socket.create_connection(("127.0.0.1", node.receiver.port)) for _ in range(5)]
    half = socket.create_connection(("127.0.0.1", node.receiver.port))
    half.sendall(b"\x01\x00\x00")
    echo(node.peer, "CT1")
    assert store(node, small_ct()) == 0x0000
    for connection in [*silent, half]:
        connection.close()


def test_a_half_pdu_is_closed_at_the_limit(start_node: StartNode) -> None:
    node = start_node(network_timeout_s=0.5)
    with socket.create_connection(("127.0.0.1", node.receiver.port), timeout=10) as half:
        half.sendall(b"\x01\x00\x00")
        assert half.recv(100) == b""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorageFull(1, 2), 0xA700),
        (StorageFailed("no"), 0xA700),
        (DiskFailed("no"), 0xA700),
        (UIDMismatch("SOPInstanceUID"), 0xA900),
        (InvalidUID("StudyInstanceUID"), STATUS[InvalidUID]),
        (NotDicom("no"), 0xC000),
        (DuplicateDiffers("1.2"), 0x0111),
        (LeaseLost("job", 1), 0x0110),
        (ZeroDivisionError(), 0x0110),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else f"{value:04X}",
)
def test_each_error_is_answered_with_its_status(start_node: StartNode, error: Exception, status: int) -> None:
    def refuse(_: Received) -> None:
        raise error

    node = start_node(on_instance=refuse)
    assert store(node, small_ct()) == status
    assert node.received == []


def test_every_error_has_a_status() -> None:
    def subclasses(kind: type[DicomnodeError]) -> Iterator[type[DicomnodeError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from subclasses(child)

    for kind in subclasses(DicomnodeError):
        assert status_of(kind.__new__(kind)) in set(STATUS.values())


def test_a_refused_instance_does_not_end_the_association(start_node: StartNode) -> None:
    refused = small_ct()

    def refuse_one(received: Received) -> None:
        if received.SOPInstanceUID == refused.SOPInstanceUID:
            raise NotDicom("no")

    node = start_node(on_instance=refuse_one)
    assoc = associate(node, (CTImageStorage, [ExplicitVRLittleEndian]))
    statuses = []
    for ds in (refused, small_ct()):
        ds.file_meta = Dataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        statuses.append(assoc.send_c_store(ds).Status)
    assoc.release()
    assert statuses == [0xC000, 0x0000]


def test_a_command_for_another_class_than_the_contexts_is_refused(start_node: StartNode) -> None:
    node = start_node()
    assoc = associate(node, (MRImageStorage, [ExplicitVRLittleEndian]))
    [context] = assoc.accepted_contexts
    context.abstract_syntax = CTImageStorage
    ds = small_ct()
    ds.file_meta = Dataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert assoc.send_c_store(ds).Status == 0x0122
    assoc.release()
    assert node.received == []


def test_a_peer_that_dies_before_the_response_leaves_what_was_stored(start_node: StartNode) -> None:
    arrived, gone = threading.Event(), threading.Event()

    def wait(_: Received) -> None:
        arrived.set()
        gone.wait(20)

    node = start_node(on_instance=wait)
    assoc = associate(node, (CTImageStorage, [ExplicitVRLittleEndian]))
    ds = small_ct()
    ds.file_meta = Dataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    sender = threading.Thread(target=assoc.send_c_store, args=(ds,))
    sender.start()
    assert arrived.wait(20)
    assoc.dul.socket.close()
    gone.set()
    sender.join()
    wait_for(lambda: [received.SOPInstanceUID for received in node.received] == [ds.SOPInstanceUID])
    echo(node.peer, "CT1")


def test_an_unknown_class_is_refused_and_the_rest_of_the_association_goes_on(start_node: StartNode) -> None:
    assoc = associate(
        start_node(), ("1.2.3.4", [ImplicitVRLittleEndian]), (Verification, [ImplicitVRLittleEndian])
    )
    assert [context.result for context in assoc.rejected_contexts] == [3]
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()


@pytest.mark.parametrize(
    ("proposed", "accepted"),
    [
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([JPEG2000Lossless, ExplicitVRLittleEndian], JPEG2000Lossless),
        ([ExplicitVRLittleEndian, JPEG2000Lossless], ExplicitVRLittleEndian),
        ([JPEGBaseline8Bit, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([JPEGBaseline8Bit], JPEGBaseline8Bit),
    ],
)
def test_the_accepted_syntax_is_the_senders_first_that_loses_nothing(
    start_node: StartNode, proposed: list[str], accepted: str
) -> None:
    assoc = associate(start_node(), (CTImageStorage, proposed))
    [context] = assoc.accepted_contexts
    assert context.transfer_syntax == [accepted]
    assoc.release()


@pytest.mark.parametrize("abstract", [LABELMAP, "1.2.840.10008.5.1.4.1.1.6"])
def test_new_and_retired_classes_are_stored(start_node: StartNode, abstract: str) -> None:
    node = start_node()
    assert store(node, small_ct(SOPClassUID=abstract)) == 0x0000
    assert [received.SOPClassUID for received in node.received] == [abstract]


def identifier(**elements: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def find(node: Node, asked: Dataset) -> list[tuple[int, Dataset | None]]:
    assoc = associate(node, (Find, [ImplicitVRLittleEndian]))
    answers = [(answer.Status, match) for answer, match in assoc.send_c_find(asked, Find)]
    assoc.release()
    return answers


def test_what_is_found_is_answered_pending(start_node: StartNode) -> None:
    matches = [identifier(StudyInstanceUID=f"1.{n}") for n in range(3)]
    answers = find(start_node(on_find=lambda _: matches), identifier(StudyInstanceUID=""))
    assert [status for status, _ in answers] == [0xFF00] * 3 + [0x0000]
    assert [match.StudyInstanceUID for _, match in answers if match] == ["1.0", "1.1", "1.2"]


def test_a_query_that_does_not_suit_is_answered_with_its_status(start_node: StartNode) -> None:
    def refuse(_: Dataset) -> Iterator[Dataset]:
        yield identifier(StudyInstanceUID="1.1")
        raise QueryRefused("QueryRetrieveLevel", "is none")

    answers = find(start_node(on_find=refuse), identifier())
    assert [status for status, _ in answers] == [0xFF00, 0xA900]


def test_a_cancelled_query_ends(start_node: StartNode) -> None:
    cancelled = threading.Event()

    def endless(_: Dataset) -> Iterator[Dataset]:
        for n in range(1_000_000):
            if n == 1:
                cancelled.wait(20)
            yield identifier(StudyInstanceUID=f"1.{n}")

    assoc = associate(start_node(on_find=endless), (Find, [ImplicitVRLittleEndian]))
    answers = assoc.send_c_find(identifier(StudyInstanceUID=""), Find, msg_id=7)
    assert next(answers)[0].Status == 0xFF00
    assoc.send_c_cancel(7, query_model=Find)
    cancelled.set()
    statuses = [answer.Status for answer, _ in answers]
    assoc.release()
    assert statuses[-1] == 0xFE00


def test_a_stop_lets_an_association_end_and_takes_no_new_one(start_node: StartNode) -> None:
    node = start_node()
    assoc = associate(node, (CTImageStorage, [ExplicitVRLittleEndian]))
    port = node.receiver.port
    stop = threading.Thread(target=node.receiver.stop, args=(20.0,))
    stop.start()

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    wait_for(refused)
    ds = small_ct()
    ds.file_meta = Dataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert assoc.send_c_store(ds).Status == 0x0000
    assoc.release()
    stop.join(10)
    assert not stop.is_alive()


def test_a_stop_aborts_who_does_not_end(start_node: StartNode) -> None:
    node = start_node()
    assoc = associate(node)
    node.receiver.stop(limit_s=0.1)
    wait_for(lambda: assoc.is_aborted)


def test_a_stop_does_not_wait_for_who_never_said_anything(start_node: StartNode) -> None:
    node = start_node(network_timeout_s=60.0, acse_timeout_s=60.0)
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", node.receiver.port)) for _ in range(3)]
    silent[0].sendall(b"\x01\x00\x00")
    wait_for(lambda: threading.active_count() >= before + 6)
    node.receiver.stop(limit_s=20.0)
    wait_for(lambda: threading.active_count() <= before, limit_s=10.0)
    for connection in silent:
        connection.close()


def test_port_0_is_told(start_node: StartNode) -> None:
    assert Peer("X", "127.0.0.1", start_node().receiver.port).port > 0
