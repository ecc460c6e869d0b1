"""What the upper layer relies on in pynetdicom's inside, and what it does with the messages that come in."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pynetdicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import DT_2, StateMachine
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicomnode.dimse.command_set import read_command
from dicomnode.dimse.requestor import association
from dicomnode.dimse.service import Intake
from dicomnode.dimse.storage import streamed_storage
from dicomnode.dimse.upper_layer import Turnstile
from dicomnode.errors import StorageFull
from dicomnode.model.instance import Announced
from tests.dimse.nodes import Node, StartNode, small_ct, write
from tests.peers import wait_for

ROOT = Path(__file__).parents[2]

RELIED_ON = {
    Association.__init__: "eb07516b8009ad8f",
    Association._run_reactor: "f28838c5559e462a",
    Association.run_reactor: "ed8bbbe3b3d6ddae",
    Association.kill: "8f9713666a7f4cff",
    Association._abort_blocking: "10b43ef8c63c6764",
    DIMSEServiceProvider.receive_primitive: "5f99c86b14a15cef",
    DIMSEServiceProvider.send_msg: "a839cf2fb46976d9",
    DULServiceProvider.__init__: "c82dafa9438ddf70",
    DULServiceProvider.run_reactor: "e3a10eb3a0931e48",
    DULServiceProvider._read_pdu_data: "19f2d4e38c13c835",
    DULServiceProvider._is_transport_event: "8725ed03bb8fbdef",
    DULServiceProvider._process_recv_primitive: "4c0ebbb3e646e35e",
    DULServiceProvider.send_pdu: "7cbce5da8594124e",
    DULServiceProvider.stop_dul: "28a7e0be126e7b30",
    DULServiceProvider.kill_dul: "5ceccf8dd01c2072",
    StateMachine.do_action: "9a883f44c7f31641",
    DT_2: "9ec543394e0b49eb",
    AssociationSocket.__init__: "1f0325fdef2cc353",
    AssociationSocket.close: "c726c8db53813d55",
    AssociationSocket.send: "1ea8158c0b51faca",
    AssociationSocket.recv: "6bc20a33b1b7cfe7",
    RequestHandler._create_association: "05c8d12b79863cdb",
    RequestHandler.handle: "034823fb4df3a874",
    ThreadedAssociationServer.process_request_thread: "9e76e9b9c8a3d8b1",
}
"""The beginning of the SHA-256 of each source: where one changes, `upper_layer` is to be looked at again."""


def test_pynetdicom_is_the_version_that_is_pinned() -> None:
    pinned = re.search(r"^pynetdicom==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert pynetdicom.__version__ == pinned[1]


@pytest.mark.parametrize("function", RELIED_ON, ids=lambda function: function.__qualname__)
def test_what_is_relied_on_is_as_it_was(function: Callable[..., object]) -> None:
    source = inspect.getsource(function)
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == RELIED_ON[function]


class Peer:
    """An association over a bare socket, for what no library would send."""

    opened: ClassVar[list[socket.socket]] = []

    def __init__(self, node: Node, abstract: str = CTImageStorage) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.receiver.port), timeout=20)
        self.opened.append(self.socket)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request, context = A_ASSOCIATE(), build_context(abstract, ExplicitVRLittleEndian)
        request.application_context_name = "1.2.840.10008.3.1.1.1"
        request.calling_ae_title, request.called_ae_title = "CT1", "DICOMNODE"
        context.context_id = 1
        request.presentation_context_definition_list = [context]
        longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
        longest.maximum_length_received = 16_384
        implementation.implementation_class_uid = "1.2.3"
        request.user_information = [longest, implementation]
        self.socket.sendall(A_ASSOCIATE_RQ(request).encode())
        assert self.pdu()[0] == 2

    def pdu(self) -> bytes:
        head = self._exactly(6)
        return head + self._exactly(struct.unpack(">BxL", head)[1])

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            block = self.socket.recv(length - len(data))
            if not block:
                raise ConnectionResetError
            data += block
        return data

    def send(self, *values: tuple[int, bytes], context_id: int = 1) -> None:
        """One PDU of presentation data values: control and fragment."""
        body = b"".join(
            struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment
            for control, fragment in values
        )
        self.socket.sendall(struct.pack(">BxL", 4, len(body)) + body)

    def status(self) -> int:
        return int.from_bytes(read_command(self.pdu()[12:])[0x0900], "little")

    def is_aborted(self) -> bool:
        return self.pdu()[0] == 7


@pytest.fixture(autouse=True)
def hung_up() -> Iterator[None]:
    """Peers hang up at the end."""
    yield
    for each in Peer.opened:
        each.close()
    Peer.opened.clear()


def command(uid: str, *, message_id: int = 1, sop_class: str = CTImageStorage, data: int = 1) -> bytes:
    elements = b"".join(
        struct.pack("<HHL", 0, number, len(value)) + value
        for number, value in (
            (0x0002, padded(sop_class)),
            (0x0100, struct.pack("<H", 1)),
            (0x0110, struct.pack("<H", message_id)),
            (0x0700, struct.pack("<H", 0)),
            (0x0800, struct.pack("<H", data)),
            (0x1000, padded(uid)),
        )
    )
    return struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements


def padded(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


COMMAND, LAST = 1, 2


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_fragments_become_the_data_set_however_they_are_cut(start_node: StartNode, pieces: int) -> None:
    node = start_node()
    peer, uid, data = Peer(node), "1.2.3.4", os.urandom(700_000)
    asked = command(uid)
    for at in range(0, len(asked), 40):
        peer.send((COMMAND | (LAST if at + 40 >= len(asked) else 0), asked[at : at + 40]))
    size = -(-len(data) // pieces)
    for at in range(0, len(data), size):
        peer.send((LAST if at + size >= len(data) else 0, data[at : at + size]))
    assert peer.status() == 0x0000
    assert [(each.SOPInstanceUID, each.data) for each in node.received] == [(uid, data)]


def test_command_and_data_set_may_share_a_pdu(start_node: StartNode) -> None:
    node = start_node()
    peer = Peer(node)
    peer.send((COMMAND | LAST, command("1.2.3")), (0, b"ab"), (LAST, b"cd"))
    assert peer.status() == 0x0000
    assert [each.data for each in node.received] == [b"abcd"]


def test_requests_that_are_sent_ahead_are_answered_in_order(start_node: StartNode) -> None:
    peer = Peer(start_node())
    for number in range(1, 21):
        peer.send((COMMAND | LAST, command(f"1.2.{number}", message_id=number)), (LAST, b"data"))
    answers = [read_command(peer.pdu()[12:]) for _ in range(20)]
    assert [int.from_bytes(each[0x0120], "little") for each in answers] == list(range(1, 21))


@pytest.mark.parametrize(
    "values",
    [
        [(LAST, b"data")],
        [(COMMAND, command("1.2.3")), (LAST, b"data")],
        [(COMMAND | LAST, command("1.2.3")), (COMMAND | LAST, command("1.2.4"))],
        [(COMMAND | LAST, command("1.2.3")[:-3])],
        [(COMMAND | LAST, b"")],
        [(COMMAND | LAST, b"\0" * 70_000)],
    ],
    ids=["no command", "half a command", "two commands", "a short command", "an empty one", "a long one"],
)
def test_what_is_no_message_is_aborted_and_leaves_nothing(
    start_node: StartNode, values: list[tuple[int, bytes]]
) -> None:
    node = start_node()
    peer = Peer(node)
    for value in values:
        peer.send(value)
    assert peer.is_aborted()
    assert node.received == []


def test_a_context_that_was_not_accepted_is_aborted(start_node: StartNode) -> None:
    peer = Peer(start_node())
    peer.send((COMMAND | LAST, command("1.2.3")), (LAST, b"data"), context_id=3)
    assert peer.is_aborted()


def test_a_request_without_a_data_set_is_answered(start_node: StartNode) -> None:
    peer = Peer(start_node())
    peer.send((COMMAND | LAST, command("1.2.3", data=0x0101)))
    assert peer.status() == 0xC000
    peer.send((COMMAND | LAST, command("1.2.4")), (LAST, b"data"))
    assert peer.status() == 0x0000


def test_a_storage_request_on_another_services_context_is_refused_after_its_data_set(
    start_node: StartNode,
) -> None:
    peer = Peer(start_node(), Verification)
    peer.send((COMMAND | LAST, command("1.2.3")), (LAST, b"data"))
    assert peer.status() == 0x0122


class Flow:
    """What an intake is given, and what becomes of it."""

    def __init__(self) -> None:
        self.bytes, self.kept, self.discarded = 0, threading.Event(), threading.Event()
        self.full_after = 2**40

    def begin(self, _: Announced) -> Flow:
        return self

    def write(self, data: memoryview) -> None:
        self.bytes += len(data)
        if self.bytes > self.full_after:
            raise StorageFull(1, 2)

    def keep(self, _: Flow) -> None:
        self.kept.set()

    def discard(self) -> None:
        self.discarded.set()


@pytest.fixture
def flow() -> Flow:
    return Flow()


@pytest.fixture
def streaming(start_node: StartNode, flow: Flow) -> Node:
    service = streamed_storage(Intake(flow.begin, Flow.write, flow.keep))
    return start_node(instead=[service])


def test_a_data_set_goes_on_before_it_is_complete(streaming: Node, flow: Flow) -> None:
    peer = Peer(streaming)
    peer.send((COMMAND | LAST, command("1.2.3")), (0, b"x" * 100_000))
    wait_for(lambda: flow.bytes == 100_000)
    assert not flow.kept.is_set()
    peer.send((LAST, b""))
    assert peer.status() == 0x0000
    assert flow.kept.is_set()


@pytest.mark.parametrize("end", ["close", "abort", "release"])
def test_who_ends_in_the_middle_leaves_nothing(streaming: Node, flow: Flow, end: str) -> None:
    peer = Peer(streaming)
    peer.send((COMMAND | LAST, command("1.2.3")), (0, b"x" * 1000))
    wait_for(lambda: flow.bytes)
    if end == "close":
        peer.socket.close()
    else:
        peer.socket.sendall(struct.pack(">BxL4x", 7 if end == "abort" else 5, 4))
    assert flow.discarded.wait(20)
    assert not flow.kept.is_set()


def test_what_fails_in_the_middle_is_answered_at_the_end_and_the_next_is_taken(
    streaming: Node, flow: Flow
) -> None:
    flow.full_after = 500
    peer = Peer(streaming)
    peer.send((COMMAND | LAST, command("1.2.3")), (0, b"x" * 1000), (LAST, b"x" * 1000))
    assert peer.status() == 0xA700
    assert flow.discarded.is_set()
    assert flow.bytes == 1000
    flow.full_after = 2**40
    peer.send((COMMAND | LAST, command("1.2.4")), (LAST, b"data"))
    assert peer.status() == 0x0000


def test_a_connection_leaves_no_descriptor_and_no_thread(start_node: StartNode) -> None:
    node = start_node()
    ae = AE("CT1")
    ae.add_requested_context(Verification, ImplicitVRLittleEndian)

    def used() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    before = used()
    for _ in range(5):
        assoc = ae.associate("127.0.0.1", node.receiver.port, ae_title="DICOMNODE")
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()
    wait_for(lambda: used() <= before)


def test_other_messages_are_answered_between_instances(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node()
    ae = AE("CT1")
    ae.add_requested_context(Verification, ImplicitVRLittleEndian)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", node.receiver.port, ae_title="DICOMNODE")
    for _ in range(3):
        assert assoc.send_c_store(write(small_ct(), tmp_path).path).Status == 0x0000
        assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    assert assoc.is_released
    assert len(node.received) == 3


def test_a_requestor_s_thread_that_was_let_go_and_has_not_moved_is_not_taken_for_paused():
    passed, may_go_on, rounds = threading.Semaphore(0), threading.Semaphore(0), 3

    def react() -> None:
        for _ in range(rounds):
            turnstile.wait()
            passed.release()
            may_go_on.acquire()

    reactor = threading.Thread(target=react, daemon=True)
    turnstile = Turnstile(reactor)
    reactor.start()
    for remaining in reversed(range(rounds)):
        assert passed.acquire(timeout=30)
        closing = threading.Thread(target=turnstile.clear, daemon=True)
        closing.start()
        wait_for(lambda: not turnstile.is_set())
        assert closing.is_alive()
        may_go_on.release()
        closing.join(30)
        assert not closing.is_alive()
        assert not passed.acquire(blocking=False)
        if remaining:
            turnstile.set()
    reactor.join(30)
    assert not reactor.is_alive()


def test_a_requestor_s_association_has_a_turnstile(start_node: StartNode):
    node = start_node()
    with association(node.peer, "TEST", [build_context(Verification)]) as assoc:
        assert isinstance(assoc._reactor_checkpoint, Turnstile)
        assert [assoc.send_c_echo().Status for _ in range(20)] == [0] * 20
