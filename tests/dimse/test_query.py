"""Asking an archive what it lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicomnode.dimse.matching import parse_identifier, response_identifier
from dicomnode.dimse.query import listed_instances
from dicomnode.dimse.sender import echo, send
from dicomnode.errors import AssociationFailed, ContextRefused, DimseError, QueryRefused
from dicomnode.model.peer import Peer
from dicomnode.model.query import Single
from tests.dimse.nodes import StartNode, small_ct, write
from tests.peers import dcmtk, free_port, orthanc, running


def instances_of_a_series(folder: Path, count: int) -> tuple[str, str, list]:
    study, series = small_ct().StudyInstanceUID, small_ct().SeriesInstanceUID
    made = [write(small_ct(StudyInstanceUID=study, SeriesInstanceUID=series), folder) for _ in range(count)]
    return study, series, made


def require_all_sent(peer: Peer, instances: list) -> None:
    errors: list[DimseError | None] = []
    send(peer, "NODE", instances, lambda _, error: errors.append(error))
    assert errors == [None] * len(instances)


def test_our_own_receiver_lists_what_matches(start_node: StartNode) -> None:
    def find(identifier: Dataset) -> Iterator[Dataset]:
        query = parse_identifier(identifier)
        assert query.matches == {"StudyInstanceUID": Single("1.2"), "SeriesInstanceUID": Single("1.3")}
        for n in range(3):
            row = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "SOPInstanceUID": f"1.4.{n}"}
            yield response_identifier(query, row, "DICOMNODE")

    listed = listed_instances(start_node(on_find=find).peer, "NODE", "1.2", "1.3")
    assert listed == {"1.4.0", "1.4.1", "1.4.2"}


def test_instances_of_another_series_are_not_counted(start_node: StartNode) -> None:
    def find(_: Dataset) -> Iterator[Dataset]:
        for series in ("1.3", "1.33"):
            ds = Dataset()
            ds.SeriesInstanceUID = series
            ds.SOPInstanceUID = f"{series}.1"
            yield ds

    assert listed_instances(start_node(on_find=find).peer, "NODE", "1.2", "1.3") == {"1.3.1"}


def test_a_failure_status_is_an_error(start_node: StartNode) -> None:
    def refuse(_: Dataset) -> Iterator[Dataset]:
        raise QueryRefused("QueryRetrieveLevel", "is none")

    with pytest.raises(DimseError, match="A900"):
        listed_instances(start_node(on_find=refuse).peer, "NODE", "1.2", "1.3")


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(AssociationFailed):
        listed_instances(Peer("X", "127.0.0.1", free_port()), "NODE", "1.2", "1.3")


def test_a_peer_without_find_is_an_error() -> None:
    ae = AE("SCP")
    ae.add_supported_context(Verification, ImplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        with pytest.raises(ContextRefused):
            listed_instances(Peer("SCP", "127.0.0.1", server.server_address[1]), "NODE", "1.2", "1.3")
    finally:
        server.shutdown()


def test_orthanc_lists_what_it_was_sent(tmp_path: Path) -> None:
    study, series, instances = instances_of_a_series(tmp_path, 5)
    with orthanc(tmp_path / "orthanc") as peer:
        echo(peer, "NODE")
        assert listed_instances(peer, "NODE", study, series) == set()
        require_all_sent(peer, instances)
        listed = listed_instances(peer, "NODE", study, series)
    assert listed == {instance.SOPInstanceUID for instance in instances}


def test_dcmqrscp_lists_what_it_was_sent(tmp_path: Path) -> None:
    study, series, instances = instances_of_a_series(tmp_path, 3)
    port, store = free_port(), tmp_path / "store"
    store.mkdir()
    configuration = tmp_path / "dcmqrscp.cfg"
    configuration.write_text(
        f"MaxPDUSize = 16384\nMaxAssociations = 8\nHostTable BEGIN\nHostTable END\n"
        f"VendorTable BEGIN\nVendorTable END\nAETable BEGIN\n"
        f"QRSCP {store} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with running([dcmtk("dcmqrscp"), "-c", str(configuration), str(port)], tmp_path / "dcmqrscp.log", port):
        peer = Peer("QRSCP", "127.0.0.1", port, response_timeout_s=20.0)
        require_all_sent(peer, instances)
        listed = listed_instances(peer, "NODE", study, series)
    assert listed == {instance.SOPInstanceUID for instance in instances}
