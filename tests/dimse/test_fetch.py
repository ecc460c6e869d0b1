"""The node retrieves from others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet, Verification

from dicomnode.dimse.fetch import get, move
from dicomnode.dimse.information_model import Root
from dicomnode.dimse.query import find
from dicomnode.dimse.sender import send
from dicomnode.dimse.tls import ListenerTLS
from dicomnode.errors import AssociationFailed, ContextRefused, DimseError, StorageFull
from dicomnode.model.instance import Received
from dicomnode.model.peer import Peer, PeerTLS
from dicomnode.model.result import OutgoingInstance
from tests.dimse.archive import archive
from tests.dimse.certificates import Authority
from tests.dimse.nodes import StartNode, outgoing, small_ct, write
from tests.peers import dcmtk, free_port, orthanc, running

CT = [CTImageStorage]


def study_of(uid: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.StudyInstanceUID = uid
    return ds


def a_study(folder: Path, instances: int) -> tuple[str, list[OutgoingInstance]]:
    study, series = small_ct().StudyInstanceUID, small_ct().SeriesInstanceUID
    made = [
        write(small_ct(StudyInstanceUID=study, SeriesInstanceUID=series), folder) for _ in range(instances)
    ]
    return study, made


def require_all_sent(peer: Peer, instances: list[OutgoingInstance]) -> None:
    errors: list[DimseError | None] = []
    send(peer, "NODE", instances, lambda _, error: errors.append(error))
    assert errors == [None] * len(instances)


@contextmanager
def dcmqrscp(folder: Path, node: Peer) -> Iterator[Peer]:
    """DCMTK's archive, which knows `node` as a move destination."""
    port, store = free_port(), folder / "store"
    store.mkdir()
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        "MaxPDUSize = 16384\nMaxAssociations = 8\nHostTable BEGIN\n"
        f"node = (NODE, {node.host}, {node.port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\nAETable BEGIN\n"
        f"QRSCP {store} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with running([dcmtk("dcmqrscp"), "-c", str(configuration), str(port)], folder / "dcmqrscp.log", port):
        yield Peer("QRSCP", "127.0.0.1", port, response_timeout_s=20.0)


@contextmanager
def orthanc_that_knows(folder: Path, node: Peer) -> Iterator[Peer]:
    modalities = {"node": ["NODE", node.host, node.port]}
    allowed = {"DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True}
    with orthanc(folder / "orthanc", DicomModalities=modalities, **allowed) as peer:
        yield peer


PEERS = pytest.mark.parametrize("archive_of", [dcmqrscp, orthanc_that_knows], ids=["dcmqrscp", "Orthanc"])


@PEERS
def test_what_is_got_arrives_on_the_same_association(
    start_node: StartNode, tmp_path: Path, archive_of
) -> None:
    study, made = a_study(tmp_path, 3)
    arrived: list[Received] = []
    with archive_of(tmp_path, start_node().peer) as peer:
        require_all_sent(peer, made)
        fetched = get(peer, "NODE", study_of(study), CT, arrived.append)
    assert (fetched.completed, fetched.failed, fetched.cancelled) == (3, 0, False)
    assert {one.SOPInstanceUID for one in arrived} == {one.SOPInstanceUID for one in made}
    assert all(one.data.endswith(bytes(range(128))) for one in arrived)
    assert len({one.association for one in arrived}) == 1


@PEERS
def test_what_is_moved_arrives_at_the_receiver(start_node: StartNode, tmp_path: Path, archive_of) -> None:
    study, made = a_study(tmp_path, 3)
    node = start_node(called_ae_titles=("NODE",))
    with archive_of(tmp_path, node.peer) as peer:
        require_all_sent(peer, made)
        fetched = move(peer, "NODE", study_of(study), "NODE")
        assert fetched.completed == 3
        assert {one.SOPInstanceUID for one in node.received} == {one.SOPInstanceUID for one in made}
        with pytest.raises(DimseError):
            move(peer, "NODE", study_of(study), "ELSEWHERE")


@PEERS
def test_what_is_found_is_what_was_sent(start_node: StartNode, tmp_path: Path, archive_of) -> None:
    study, made = a_study(tmp_path, 1)
    asked = Dataset()
    asked.QueryRetrieveLevel = "PATIENT"
    asked.PatientID = "P1"
    asked.PatientName = ""
    with archive_of(tmp_path, start_node().peer) as peer:
        require_all_sent(peer, made)
        assert [str(ds.StudyInstanceUID) for ds in find(peer, "NODE", study_of(study))] == [study]
        assert [ds.PatientName for ds in find(peer, "NODE", asked, Root.PATIENT)] == ["Doe^Jane"]


def test_an_instance_that_could_not_be_kept_is_counted_and_named(tmp_path: Path) -> None:
    kept: list[Received] = []

    def keep(received: Received) -> None:
        if len(kept) == 1:
            kept.append(received)
            raise StorageFull(1, 2)
        kept.append(received)

    with archive(tmp_path) as node:
        stored = node.keep_study(series=1)
        fetched = get(node.peer, "NODE", study_of(stored[0].StudyInstanceUID), CT, keep)
    assert (fetched.completed, fetched.failed) == (2, 1)
    assert fetched.failed_instances == (kept[1].SOPInstanceUID,)


def test_compressed_instances_come_as_they_are_stored(tmp_path: Path, shared_data: Path) -> None:
    [file] = (shared_data / "codecs").glob("CTImage_JPEGLSLossless*.dcm")
    arrived: list[Received] = []
    with archive(tmp_path) as node:
        study = node.keep_file(file).StudyInstanceUID
        plain = node.keep(small_ct(StudyInstanceUID=study))
        get(node.peer, "NODE", study_of(study), CT, arrived.append)
    assert {one.SOPInstanceUID: one.TransferSyntaxUID for one in arrived} == {
        outgoing(file).SOPInstanceUID: JPEGLSLossless,
        plain.SOPInstanceUID: ExplicitVRLittleEndian,
    }


def test_a_retrieval_is_cancelled_once_it_is_stopped(tmp_path: Path) -> None:
    arrived: list[Received] = []
    with archive(tmp_path) as node:
        study = node.keep_study(series=1, instances=100)[0].StudyInstanceUID
        fetched = get(
            node.peer, "NODE", study_of(study), CT, arrived.append, stopped=lambda: len(arrived) >= 3
        )
    assert fetched.cancelled
    assert 3 <= fetched.completed == len(arrived) < 100


def test_it_goes_by_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    shown, own = authority.certificate("node"), authority.certificate("client")
    arrived: list[Received] = []
    tls = ListenerTLS(0, shown.certificate, shown.key, authority.ca)
    with archive(tmp_path, tls=tls) as node:
        study = node.keep_study()[0].StudyInstanceUID
        peer = Peer("DICOMNODE", "127.0.0.1", node.receiver.tls_port, 10.0, 20.0,
                    PeerTLS(authority.ca, own.certificate, own.key))  # fmt: skip
        assert get(peer, "NODE", study_of(study), CT, arrived.append).completed == len(arrived) == 6


def test_nobody_there_is_an_error() -> None:
    nobody = Peer("X", "127.0.0.1", free_port())
    with pytest.raises(AssociationFailed):
        get(nobody, "NODE", study_of("1.2"), CT, lambda _: None)
    with pytest.raises(AssociationFailed):
        move(nobody, "NODE", study_of("1.2"), "NODE")


def test_a_peer_without_the_service_or_that_refuses_is_an_error(tmp_path: Path) -> None:
    ae = AE("SCP")
    ae.add_supported_context(Verification)
    ae.add_supported_context(CTImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        peer = Peer("SCP", "127.0.0.1", server.server_address[1], response_timeout_s=20.0)
        with pytest.raises(ContextRefused, match=StudyRootQueryRetrieveInformationModelGet):
            get(peer, "NODE", study_of("1.2"), CT, lambda _: None)
    finally:
        server.shutdown()
    with archive(tmp_path) as node, pytest.raises(DimseError, match="A900"):
        get(node.peer, "NODE", study_of(""), CT, lambda _: None)
