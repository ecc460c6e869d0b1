"""Cases 1 to 20: what a peer may do to the DIMSE port, below and above an association (PS3.7, PS3.8)."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from tests.harness.nodes import wait_for
from tests.hostile.datasets import DataSet
from tests.hostile.node import MAXIMUM_MB, HostileNode
from tests.hostile.peer import (
    ABORT,
    AC,
    CONTEXTS,
    CT_CONTEXT,
    ECHO_CONTEXT,
    P_DATA,
    RJ,
    RQ,
    VERIFICATION,
    RawPeer,
    associate_rq,
    command,
    echo_rq,
    item,
    pdu,
    pdv,
    proposed,
    store_rq,
)

DEADLINE_S = 6.0
"""By then it is over: the deadlines of this node are about one second."""


@pytest.fixture
def peer(node: HostileNode):
    with RawPeer(node.receiver.port) as peer:
        yield peer


@pytest.mark.parametrize("kind", [RQ, P_DATA, 0x07])
def test_01_a_pdu_that_claims_4_gb_ends_the_connection(peer, kind):
    peer.say(pdu(kind, bytes(100), length=0xFFFFFFF0))
    assert peer.ends() in ("close", "abort")


def test_01_a_p_data_pdu_that_claims_4_gb_ends_the_association(peer):
    peer.associate().say(pdu(P_DATA, bytes(100), length=0xFFFFFFF0))
    assert peer.ends() in ("close", "abort")


@pytest.mark.parametrize("beginning", [b"\x01", b"\x01\0\0", pdu(RQ, bytes(10), length=200)])
def test_02_half_a_pdu_is_closed_at_the_deadline(peer, beginning):
    began = time.monotonic()
    peer.say(beginning)
    assert peer.ends() in ("close", "abort")
    assert time.monotonic() - began < DEADLINE_S


@pytest.mark.parametrize("associated", [False, True], ids=["before", "within"])
def test_02_a_pdu_that_drips_is_closed_at_the_deadline(peer, associated):
    began = time.monotonic()
    if associated:
        peer.associate()
    drips = pdu(P_DATA, pdv(1, 3, bytes(2000))) if associated else associate_rq()
    gone = threading.Event()

    def drip() -> None:
        for at in range(len(drips)):
            try:
                peer.say(drips[at : at + 1])
            except OSError:
                return
            if gone.wait(0.1):
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert peer.ends() in ("close", "abort")
    finally:
        gone.set()
        dripping.join()
    assert time.monotonic() - began < DEADLINE_S


def test_03_a_silent_connection_is_closed_at_the_deadline(peer):
    began = time.monotonic()
    assert peer.ends() == "close"
    assert time.monotonic() - began < DEADLINE_S


def test_03_a_silent_association_is_ended_at_the_deadline(peer):
    began = time.monotonic()
    assert peer.associate().ends() == "abort"
    assert time.monotonic() - began < DEADLINE_S


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)]
    + [pdu(kind, bytes(10)) for kind in (0, 8, 0xFF)],
    ids=["HTTP", "TLS", "0", "8", "255"],
)
def test_04_what_is_no_pdu_is_aborted(peer, data):
    peer.say(data)
    assert peer.ends() == "abort"


def test_05_p_data_before_an_association_is_aborted(peer):
    peer.say(pdu(P_DATA, pdv(ECHO_CONTEXT, 3, command(echo_rq()))))
    assert peer.ends() == "abort"


@pytest.mark.parametrize("version", [0, 2, 0x8000])
def test_06_another_protocol_version_is_rejected(peer, version):
    peer.say(associate_rq(version=version))
    assert rejection(peer) == (1, 2, 2)


@pytest.mark.parametrize("called", [b"OTHER", b"node", b"NODE'; DROP"])
def test_07_an_unknown_called_ae_title_is_rejected(peer, called):
    peer.say(associate_rq(called=called))
    assert rejection(peer) == (1, 1, 7)


@pytest.mark.parametrize("title", [b"", b"\xff\xfe\x00\x1b[31m", b"A\\B"])
def test_07_what_is_no_ae_title_is_rejected_or_aborted_and_never_logged(node, peer, title):
    peer.say(associate_rq(called=title, calling=title))
    assert peer.hear()[0] in (RJ, ABORT)
    assert "\x1b" not in node.log()


def test_09_too_many_associations_are_rejected(node):
    peers = [RawPeer(node.receiver.port).associate() for _ in range(8)]
    with RawPeer(node.receiver.port) as one_more:
        one_more.say(associate_rq())
        assert rejection(one_more) == (2, 3, 2)
    for peer in peers:
        peer.release()
        peer.connection.close()


CONTEXT = (VERIFICATION, (ImplicitVRLittleEndian,))


@pytest.mark.parametrize(
    "contexts",
    [
        [],
        [(2 * number + 1, *CONTEXT) for number in range(127)] + [(1, *CONTEXT)] * 3,
        [(2, *CONTEXT)],
        [(1, *CONTEXT), (1, *CONTEXT)],
        [(0, *CONTEXT)],
    ],
    ids=["none", "too many", "even", "twice", "zero"],
)
def test_10_impossible_presentation_contexts_are_aborted(peer, contexts):
    peer.say(associate_rq(contexts))
    assert peer.ends() == "abort"


def test_11_an_unsupported_class_and_syntax_are_answered_in_their_context(peer):
    peer.say(
        associate_rq(
            [(1, "1.2.3.4", (ImplicitVRLittleEndian,)), (3, CTImageStorage, ("1.2.3.4",)), (5, *CONTEXT)]
        )
    )
    kind, payload = peer.hear()
    assert kind == AC
    assert results(payload) == {1: 3, 3: 4, 5: 0}
    peer.send(5, echo_rq())
    assert peer.status() == 0x0000
    peer.release()


@pytest.mark.parametrize(
    "items",
    [
        item(0x10, b"1.2.840.10008.3.1.1.1", length=0xFFFF),
        item(0x20, proposed(1, *CONTEXT)[4:], length=5),
        item(0x20, bytes(4) + item(0x30, VERIFICATION.encode(), length=0xFFF0)),
        item(0x20, struct.pack(">BBBB", 1, 0, 0, 0)),
        item(0x50, item(0x51, b"\0\0", length=4)),
        item(0x50, item(0x58, b"\x01")),
        item(0x50, item(0x54, struct.pack(">H", 500) + b"1.2")),
        b"\x10\x00\x00",
        item(0x10, b"\xff" * 30) + proposed(1, *CONTEXT),
    ],
    ids=["length", "context", "inner", "empty", "user", "identity", "role", "half", "application"],
)
def test_12_lying_item_lengths_are_aborted(peer, items):
    peer.say(associate_rq(items=items))
    assert peer.ends() == "abort"


@pytest.mark.parametrize("length", [0, 1, 5000, 0xFFFFFFFF])
def test_12_a_pdv_with_a_lying_length_is_aborted(peer, length):
    peer.associate().say(pdu(P_DATA, pdv(ECHO_CONTEXT, 3, command(echo_rq()), length=length)))
    assert peer.ends() == "abort"


@pytest.mark.parametrize("context", [0, 2, 99, 255])
def test_13_a_message_in_a_context_that_was_not_accepted_is_aborted(peer, context):
    peer.associate().send(context, echo_rq())
    assert peer.ends() == "abort"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0\0",
        command({}),
        command({0x0100: struct.pack("<H", 1)}),
        command({**echo_rq(), 0x0100: b"\x30"}),
        command({number: value for number, value in echo_rq().items() if number != 0x0110}),
        command({number: value for number, value in store_rq("1.2.3").items() if number != 0x1000}),
        command(echo_rq())[:-3],
        command({**echo_rq(), 0x0002: b"\xff" * 200}),
        b"\xff" * 100,
    ],
    ids=["none", "bytes", "empty", "bare", "short", "id", "uid", "cut", "long", "junk"],
)
def test_14_a_command_without_its_elements_is_aborted(peer, message):
    peer.associate().say(pdu(P_DATA, pdv(ECHO_CONTEXT, 3, message)))
    assert peer.ends() == "abort"


def test_15_an_unknown_command_is_answered_so(peer):
    peer.associate().send(ECHO_CONTEXT, {**echo_rq(), 0x0100: struct.pack("<H", 0x0999)})
    assert peer.status() == 0x0211


def test_16_another_sop_class_than_the_contexts_is_refused(node, peer):
    ds = DataSet()
    peer.associate().send(CT_CONTEXT, store_rq(ds.SOPInstanceUID, MRImageStorage), ds.encoded())
    assert peer.status() == 0x0122
    peer.release()
    assert ds.SOPInstanceUID not in node.stored()


def test_17_another_instance_than_the_command_names_is_refused(node, peer):
    ds = DataSet()
    peer.associate().send(CT_CONTEXT, store_rq("1.2.3.4"), ds.encoded())
    assert peer.status() == 0xA900
    peer.release()
    assert not node.stored() & {ds.SOPInstanceUID, "1.2.3.4"}


@pytest.mark.parametrize("how", ["close", "reset", "abort", "pdu"])
def test_18_a_data_set_that_is_cut_leaves_nothing(node, how):
    ds = DataSet()
    with RawPeer(node.receiver.port) as peer:
        peer.associate().send(CT_CONTEXT, store_rq(ds.SOPInstanceUID))
        peer.fragments(CT_CONTEXT, ds.encoded() + bytes(100_000), last=0)
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif how == "abort":
            peer.say(pdu(0x07, bytes(4)))
            assert peer.ends() == "close"
        elif how == "pdu":
            peer.say(pdu(P_DATA, pdv(CT_CONTEXT, 0, bytes(50)), length=500))
    wait_for("no temporary file", lambda: not node.temporaries(), 10)
    assert ds.SOPInstanceUID not in node.stored()


def test_19_endless_fragments_are_aborted_at_the_maximum_size(node, peer):
    ds = DataSet()
    peer.associate().send(CT_CONTEXT, store_rq(ds.SOPInstanceUID))
    fragment = pdu(P_DATA, pdv(CT_CONTEXT, 0, bytes(16_000)))
    for _ in range(MAXIMUM_MB * 1_000_000 // 16_000):
        peer.say(fragment)
    assert node.temporaries()
    # What comes until the connection is closed is read, and forgotten (PS3.8 9.2.1, Sta13).
    with suppress(OSError):
        for _ in range(500):
            peer.say(fragment)
    assert peer.ends() in ("abort", "close")
    assert ds.SOPInstanceUID not in node.stored()


def test_20_an_abort_before_the_response_keeps_the_instance_and_the_resend_is_welcome(node):
    ds = DataSet()
    with RawPeer(node.receiver.port) as peer:
        peer.associate().send(CT_CONTEXT, store_rq(ds.SOPInstanceUID), ds.encoded())
        peer.say(pdu(0x07, bytes(4)))
    wait_for("the instance", lambda: ds.SOPInstanceUID in node.stored(), 10)
    with RawPeer(node.receiver.port) as peer:
        peer.associate().send(CT_CONTEXT, store_rq(ds.SOPInstanceUID), ds.encoded())
        assert peer.status() == 0x0000
        peer.release()


def rejection(peer: RawPeer) -> tuple[int, int, int]:
    """Result, source and reason (PS3.8 9.3.4)."""
    heard = peer.hear()
    assert heard is not None
    assert heard[0] == RJ, heard
    return heard[1][1], heard[1][2], heard[1][3]


def results(payload: bytes) -> dict[int, int]:
    """The result of each presentation context of an A-ASSOCIATE-AC (PS3.8 9.3.3.2)."""
    found, at = {}, 68
    while at + 4 <= len(payload):
        kind, length = payload[at], int.from_bytes(payload[at + 2 : at + 4], "big")
        if kind == 0x21:
            found[payload[at + 4]] = payload[at + 6]
        at += 4 + length
    return found


def test_the_syntaxes_and_contexts_of_these_tests_are_accepted(node):
    assert [context[0] for context in CONTEXTS] == [ECHO_CONTEXT, CT_CONTEXT]
    ds = DataSet()
    with RawPeer(node.receiver.port) as peer:
        peer.associate((CT_CONTEXT, CTImageStorage, (ExplicitVRLittleEndian,)))
        peer.send(CT_CONTEXT, store_rq(ds.SOPInstanceUID), ds.encoded())
        assert peer.status() == 0x0000
        peer.release()
    assert ds.SOPInstanceUID in node.stored()
