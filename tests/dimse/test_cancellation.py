"""C-CANCEL ends the request that it names, however soon it comes, and no other one (PS3.7 9.3.2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Get
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as Move

from dicomnode.model.peer import Peer
from tests.dimse.archive import archive
from tests.dimse.nodes import StartNode
from tests.peers import free_port, run, wait_for

Answers = Iterator[tuple[Dataset, Dataset | None]]


def associate(port: int) -> Association:
    ae = AE("WS")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    for model in (Find, Get, Move):
        ae.add_requested_context(model, ImplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", port, ae_title="DICOMNODE")
    assert assoc.is_established
    return assoc


def study(uid: str = "") -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel, ds.StudyInstanceUID = "STUDY", uid
    return ds


def cancelled_at_once(assoc: Association, model: str, ask: Callable[[], Answers]) -> Answers:
    """The answers to a request of Message ID 7 that leaves in one piece with its C-CANCEL."""
    pieces: list[bytes] = []
    send, assoc.dul.socket.send = assoc.dul.socket.send, pieces.append
    answers = ask()
    assoc.send_c_cancel(7, query_model=model)
    wait_for(lambda: len(pieces) == 3)
    assoc.dul.socket.send = send
    send(b"".join(pieces))
    return answers


def endless(_: Dataset) -> Iterator[Dataset]:
    return (study(f"1.{n}") for n in count())


def test_a_query_is_cancelled_by_what_comes_with_it(start_node: StartNode) -> None:
    assoc = associate(start_node(on_find=endless).receiver.port)
    for _ in range(3):
        answers = cancelled_at_once(assoc, Find, lambda: assoc.send_c_find(study(), Find, msg_id=7))
        assert [answer.Status for answer, _ in answers][-1] == 0xFE00
    assoc.release()


@pytest.mark.parametrize("model", [Get, Move])
def test_a_retrieval_is_cancelled_by_what_comes_with_it(tmp_path: Path, model: str) -> None:
    with archive(tmp_path, [Peer("NOBODY", "127.0.0.1", free_port())]) as node:
        wanted = study(node.keep_study(series=1, instances=300)[0].StudyInstanceUID)
        assoc = associate(node.receiver.port)
        ask = {
            Get: lambda: assoc.send_c_get(wanted, Get, msg_id=7),
            Move: lambda: assoc.send_c_move(wanted, "NOBODY", Move, msg_id=7),
        }
        status, _ = list(cancelled_at_once(assoc, model, ask[model]))[-1]
        assoc.release()
    assert status.Status == 0xFE00
    assert status.NumberOfRemainingSuboperations > 0


def test_a_cancellation_that_comes_too_late_is_not_that_of_the_next_request(start_node: StartNode) -> None:
    assoc = associate(start_node(on_find=lambda _: [study("1.2")]).receiver.port)
    for _ in range(3):
        answers = assoc.send_c_find(study(), Find, msg_id=7)
        assert [answer.Status for answer, _ in answers] == [0xFF00, 0x0000]
        assoc.send_c_cancel(7, query_model=Find)
    assoc.release()


def test_findscu_cancels_after_its_first_match(start_node: StartNode) -> None:
    port = start_node(on_find=endless).receiver.port
    done = run("findscu", "-v", "-S", "--cancel", 1, "-aec", "DICOMNODE", *_KEYS, "127.0.0.1", port)
    assert "MatchingTerminatedDueToCancelRequest" in done.stdout + done.stderr


_KEYS = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID")
