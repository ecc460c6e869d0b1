"""The sender, before pynetdicom peers, DCMTK's storescp, and our own receiver."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
)
from pynetdicom import AE, evt

from dicomnode.dimse.sender import echo, send
from dicomnode.errors import AssociationFailed, ContextRefused, DimseError, StoreRefused
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance
from tests.dimse.nodes import StartNode, dataset_bytes, outgoing, small_ct, write
from tests.peers import free_port, storescp

Outcomes = list[tuple[OutgoingInstance, DimseError | None]]


def outcomes_of(peer: Peer, instances: list[OutgoingInstance], calling: str = "NODE") -> Outcomes:
    outcomes: Outcomes = []
    send(peer, calling, instances, lambda instance, error: outcomes.append((instance, error)))
    return outcomes


class Scp:
    """A pynetdicom peer that takes CT images in some transfer syntaxes."""

    def __init__(self, *syntaxes: str, abstract: str = CTImageStorage) -> None:
        self.statuses: Iterator[int] = iter([])
        self.taken: list[tuple[str, bytes]] = []
        self.abort_at = -1
        ae = AE("SCP")
        ae.add_supported_context(abstract, list(syntaxes))
        self.server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.peer = Peer("SCP", "127.0.0.1", self.server.server_address[1], response_timeout_s=20.0)

    def _store(self, event: evt.Event) -> int:
        if len(self.taken) == self.abort_at:
            event.assoc.abort()
            return 0x0000
        self.taken.append((event.context.transfer_syntax, event.request.DataSet.getvalue()))
        return next(self.statuses, 0x0000)


@pytest.fixture
def start_scp() -> Iterator[type[Scp]]:
    started: list[Scp] = []

    def start(*syntaxes: str, abstract: str = CTImageStorage) -> Scp:
        started.append(Scp(*syntaxes, abstract=abstract))
        return started[-1]

    yield start
    for scp in started:
        scp.server.shutdown()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_the_bytes_of_the_file_are_sent(start_scp, tmp_path: Path, syntax: str) -> None:
    scp = start_scp(ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    instances = [write(small_ct(), tmp_path, syntax) for _ in range(3)]
    assert outcomes_of(scp.peer, instances) == [(instance, None) for instance in instances]
    assert scp.taken == [(syntax, dataset_bytes(instance.path)) for instance in instances]


def test_bytes_that_no_encoder_would_write_are_sent_as_they_are(start_scp, tmp_path: Path) -> None:
    scp = start_scp(ExplicitVRLittleEndian)
    instance = write(small_ct(), tmp_path)
    path = Path(instance.path)
    data = path.read_bytes()
    assert data.count(b"Doe^Jane") == 1
    path.write_bytes(data.replace(b"Doe^Jane", b"Doe^J\xe9n\0"))
    assert outcomes_of(scp.peer, [instance]) == [(instance, None)]
    assert scp.taken == [(ExplicitVRLittleEndian, dataset_bytes(path))]


def test_each_real_transfer_syntax_is_sent_byte_for_byte(start_node: StartNode, shared_data: Path) -> None:
    files = [
        file
        for file in sorted((shared_data / "codecs").glob("*.dcm"))
        if file.read_bytes()[128:132] == b"DICM"
    ]
    node = start_node()
    instances = [outgoing(file) for file in files]
    assert len({instance.TransferSyntaxUID for instance in instances}) >= 15
    assert [error for _, error in outcomes_of(node.peer, instances)] == [None] * len(files)
    for instance, received in zip(instances, node.received, strict=True):
        assert received.TransferSyntaxUID == instance.TransferSyntaxUID
        assert received.SOPInstanceUID == instance.SOPInstanceUID
        assert received.data == dataset_bytes(instance.path)


@pytest.mark.parametrize(
    ("own", "other"),
    [(ExplicitVRLittleEndian, ImplicitVRLittleEndian), (ImplicitVRLittleEndian, ExplicitVRLittleEndian)],
)
def test_a_peer_that_takes_the_other_little_endian_syntax_gets_the_same_values(
    start_scp, tmp_path: Path, own: str, other: str
) -> None:
    scp = start_scp(other)
    ds = small_ct()
    instance = write(ds, tmp_path, own)
    assert outcomes_of(scp.peer, [instance]) == [(instance, None)]
    [(syntax, data)] = scp.taken
    assert syntax == other
    (tmp_path / "taken").mkdir()
    expected = write(dcmread(instance.path), tmp_path / "taken", other)
    assert data == dataset_bytes(expected.path)


def test_a_compressed_instance_is_not_decoded_for_a_peer_that_refuses_it(start_scp, tmp_path: Path) -> None:
    scp = start_scp(ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    ct = write(small_ct(), tmp_path)
    compressed = OutgoingInstance(ct.SOPClassUID, ct.SOPInstanceUID, JPEG2000Lossless, ct.path)
    plain = write(small_ct(), tmp_path)
    (_, refused), (_, taken) = outcomes_of(scp.peer, [compressed, plain])
    assert isinstance(refused, ContextRefused)
    assert refused.TransferSyntaxUID == JPEG2000Lossless
    assert taken is None


def test_a_peer_that_refuses_the_class_refuses_each_instance(start_scp, tmp_path: Path) -> None:
    scp = start_scp(ImplicitVRLittleEndian, abstract=MRImageStorage)
    instances = [write(small_ct(), tmp_path) for _ in range(2)]
    errors = [error for _, error in outcomes_of(scp.peer, instances)]
    assert [type(error) for error in errors] == [ContextRefused] * 2


def test_warnings_are_accepted_and_failures_are_reported(start_scp, tmp_path: Path) -> None:
    scp = start_scp(ExplicitVRLittleEndian)
    scp.statuses = iter([0x0000, 0xB000, 0xB006, 0xB007, 0xA700, 0xC000])
    errors = [error for _, error in outcomes_of(scp.peer, [write(small_ct(), tmp_path) for _ in range(6)])]
    assert errors[:4] == [None] * 4
    assert [error.status for error in errors[4:] if isinstance(error, StoreRefused)] == [0xA700, 0xC000]


def test_a_peer_that_dies_leaves_what_it_answered_and_fails_the_rest(start_scp, tmp_path: Path) -> None:
    scp = start_scp(ExplicitVRLittleEndian)
    scp.abort_at = 2
    errors = [error for _, error in outcomes_of(scp.peer, [write(small_ct(), tmp_path) for _ in range(5)])]
    assert errors[:2] == [None, None]
    assert [type(error) for error in errors[2:]] == [AssociationFailed] * 3


def test_nobody_there_fails_each(tmp_path: Path) -> None:
    peer = Peer("NOBODY", "127.0.0.1", free_port(), connect_timeout_s=2.0)
    errors = [error for _, error in outcomes_of(peer, [write(small_ct(), tmp_path) for _ in range(2)])]
    assert [type(error) for error in errors] == [AssociationFailed] * 2


def test_a_host_without_an_address_fails_each(tmp_path: Path) -> None:
    peer = Peer("NOBODY", "no-such-host.invalid", 104, connect_timeout_s=2.0)
    [(_, error)] = outcomes_of(peer, [write(small_ct(), tmp_path)])
    assert isinstance(error, AssociationFailed)


def test_a_peer_that_says_nothing_fails_at_the_limit(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer("SILENT", "127.0.0.1", silent.getsockname()[1], response_timeout_s=0.5)
        [(_, error)] = outcomes_of(peer, [write(small_ct(), tmp_path)])
    assert isinstance(error, AssociationFailed)


def test_a_rejection_says_why(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node(accept=())
    [(_, error)] = outcomes_of(node.peer, [write(small_ct(), tmp_path)])
    assert isinstance(error, AssociationFailed)
    assert "1/1/3" in str(error)
    with pytest.raises(AssociationFailed):
        echo(node.peer, "NODE")


def test_a_file_that_is_gone_fails_alone(start_scp, tmp_path: Path) -> None:
    scp = start_scp(ExplicitVRLittleEndian)
    gone, there = write(small_ct(), tmp_path), write(small_ct(), tmp_path)
    Path(gone.path).unlink()
    (_, failed), (_, taken) = outcomes_of(scp.peer, [gone, there])
    assert isinstance(failed, DimseError)
    assert taken is None


def test_more_pairs_than_contexts_take_several_associations(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node()
    classes = [f"1.2.840.10008.5.1.4.1.1.{last}" for last in ("2", "4", "7", "1", "20", "128")]
    made = [write(small_ct(SOPClassUID=uid), tmp_path) for uid in classes]
    syntaxes = [f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 92, 93)]
    syntaxes += [
        f"1.2.840.10008.1.2.4.{n}" for n in (100, 101, 102, 103, 104, 105, 106, 107, 108, 201, 202, 203)
    ]
    instances = [
        OutgoingInstance(one.SOPClassUID, one.SOPInstanceUID, syntax, one.path)
        for one in made
        for syntax in syntaxes
    ]
    outcomes = outcomes_of(node.peer, instances)
    assert [instance for instance, _ in outcomes] == instances
    assert len(node.associations) == 2


def test_dcmtk_keeps_what_was_sent_bit_for_bit(tmp_path: Path) -> None:
    instances = [write(small_ct(), tmp_path) for _ in range(3)]
    with storescp(tmp_path / "taken", "+B") as peer:
        echo(peer, "NODE")
        assert [error for _, error in outcomes_of(peer, instances)] == [None] * 3
    taken = {dcmread(file).SOPInstanceUID: file for file in (tmp_path / "taken").iterdir()}
    assert {uid: dataset_bytes(file) for uid, file in taken.items()} == {
        instance.SOPInstanceUID: dataset_bytes(instance.path) for instance in instances
    }


def test_dcmtk_that_takes_implicit_vr_only_gets_implicit_vr(tmp_path: Path) -> None:
    instance = write(small_ct(), tmp_path)
    with storescp(tmp_path / "taken", "+xi", "+B") as peer:
        assert outcomes_of(peer, [instance]) == [(instance, None)]
    [file] = (tmp_path / "taken").iterdir()
    assert dcmread(file).file_meta.TransferSyntaxUID == ImplicitVRLittleEndian


def test_several_senders_at_a_time_do_not_mix(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node()
    batches = [[write(small_ct(), tmp_path) for _ in range(4)] for _ in range(4)]
    results: dict[int, Outcomes] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: outcomes_of(node.peer, batches[n])}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [(instance, None) for instance in batch] for n, batch in enumerate(batches)}
