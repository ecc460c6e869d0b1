"""Others retrieve from the node: C-MOVE to known peers, C-GET over their own association."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicomnode.dimse.get import get
from dicomnode.dimse.presentation import NATIVE
from dicomnode.errors import StorageFailed
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance
from dicomnode.store.retrieval import stored_instances
from tests.dimse.archive import Archive, archive
from tests.dimse.nodes import StartNode, small_ct
from tests.peers import free_port, run, storescp, wait_for

MOVE, GET = StudyRootQueryRetrieveInformationModelMove, StudyRootQueryRetrieveInformationModelGet


def uids(datasets: Iterable[Dataset]) -> set[str]:
    return {ds.SOPInstanceUID for ds in datasets}


def read(folder: Path) -> list[Dataset]:
    return [dcmread(path, force=True) for path in folder.iterdir()]


def keys(level: str, **elements: object) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def arguments(level: str, ds: Dataset, *keywords: str) -> list[str]:
    wanted = [f"{keyword}={ds[keyword].value}" for keyword in keywords]
    return [part for key in (f"QueryRetrieveLevel={level}", *wanted) for part in ("-k", key)]


LEVELS = [
    ("-P", "PATIENT", ["PatientID"], 6),
    ("-P", "STUDY", ["PatientID", "StudyInstanceUID"], 6),
    ("-P", "SERIES", ["PatientID", "StudyInstanceUID", "SeriesInstanceUID"], 3),
    ("-P", "IMAGE", ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"], 1),
    ("-S", "STUDY", ["StudyInstanceUID"], 6),
    ("-S", "SERIES", ["StudyInstanceUID", "SeriesInstanceUID"], 3),
    ("-S", "IMAGE", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"], 1),
    ("-O", "PATIENT", ["PatientID"], 6),
    ("-O", "STUDY", ["PatientID", "StudyInstanceUID"], 6),
]


@pytest.mark.parametrize(("model", "level", "keywords", "count"), LEVELS)
def test_movescu_gets_what_it_names_at_each_level_of_each_model(
    tmp_path: Path, model: str, level: str, keywords: list[str], count: int
) -> None:
    arrived, port = tmp_path / "arrived", free_port()
    arrived.mkdir()
    with archive(tmp_path, [Peer("WS", "127.0.0.1", port)]) as node:
        kept = node.keep_study()
        node.keep_study(PatientID="P2")
        named = arguments(level, kept[0], *keywords)
        done = run(
            "movescu", "-v", model, "-aet", "WS", "-aem", "WS", "-aec", "DICOMNODE", "+P", port,
            "-od", arrived, *named, "127.0.0.1", node.receiver.port,
        )  # fmt: skip
    assert "Success" in done.stdout + done.stderr
    assert len(read(arrived)) == count
    assert uids(read(arrived)) <= uids(kept)


@pytest.mark.parametrize(("model", "level", "keywords", "count"), LEVELS)
def test_getscu_gets_what_it_names_at_each_level_of_each_model(
    tmp_path: Path, model: str, level: str, keywords: list[str], count: int
) -> None:
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    with archive(tmp_path) as node:
        kept = node.keep_study()
        node.keep_study(PatientID="P2")
        named = arguments(level, kept[0], *keywords)
        run(
            "getscu",
            "-v",
            model,
            "-aec",
            "DICOMNODE",
            "-od",
            arrived,
            *named,
            "127.0.0.1",
            node.receiver.port,
        )
    assert len(read(arrived)) == count
    assert uids(read(arrived)) <= uids(kept)


class Requestor:
    """An association of pynetdicom's that may be SCP for its C-GET."""

    def __init__(self, node: Archive, syntax: str = ExplicitVRLittleEndian, **settings: object) -> None:
        self.stored: list[Dataset] = []
        self.answers = iter(settings.get("answers", ()))
        ae = AE("WS")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        models = (MOVE, GET, PatientRootQueryRetrieveInformationModelMove)
        for model in (*models, PatientRootQueryRetrieveInformationModelGet):
            ae.add_requested_context(model, [ExplicitVRLittleEndian])
        ae.add_requested_context(CTImageStorage, [syntax])
        self.assoc: Association = ae.associate(
            "127.0.0.1",
            node.receiver.port,
            ae_title="DICOMNODE",
            ext_neg=[build_role(CTImageStorage, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, self._store)],
        )
        assert self.assoc.is_established

    def _store(self, event: evt.Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        self.stored.append(ds)
        return next(self.answers, 0x0000)

    def get(self, identifier: Dataset, model: str = GET) -> list[tuple[Dataset, Dataset | None]]:
        answers = list(self.assoc.send_c_get(identifier, model))
        self.assoc.release()
        return answers

    def move(
        self, identifier: Dataset, to: str = "STORESCP", model: str = MOVE
    ) -> list[tuple[Dataset, Dataset | None]]:
        answers = list(self.assoc.send_c_move(identifier, to, model))
        self.assoc.release()
        return answers


def counts(status: Dataset) -> tuple[int, int | None, int, int, int]:
    return (
        status.Status,
        status.get("NumberOfRemainingSuboperations"),
        status.NumberOfCompletedSuboperations,
        status.NumberOfFailedSuboperations,
        status.NumberOfWarningSuboperations,
    )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Archive]:
    with archive(tmp_path, [Peer("NOBODY", "127.0.0.1", free_port())]) as running:
        yield running


def test_what_is_got_is_what_was_kept_and_each_is_counted(node: Archive) -> None:
    kept = node.keep_study(series=1)
    requestor = Requestor(node)
    answers = requestor.get(keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID))
    assert [counts(status) for status, _ in answers] == [
        (0xFF00, 2, 1, 0, 0),
        (0xFF00, 1, 2, 0, 0),
        (0x0000, None, 3, 0, 0),
    ]
    stored = {ds.SOPInstanceUID: ds for ds in requestor.stored}
    assert {uid: ds.PixelData for uid, ds in stored.items()} == {
        ds.SOPInstanceUID: ds.PixelData for ds in kept
    }


def test_failures_and_warnings_are_counted_and_the_failed_are_named(node: Archive) -> None:
    kept = node.keep_study(series=1)
    requestor = Requestor(node, answers=[0xA700, 0xB000, 0x0000])
    status, identifier = requestor.get(keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID))[-1]
    assert counts(status) == (0xB000, None, 1, 1, 1)
    assert identifier.FailedSOPInstanceUIDList == kept[0].SOPInstanceUID


def test_a_requestor_that_is_no_scp_gets_nothing(node: Archive) -> None:
    kept = node.keep_study(series=1, instances=2)
    ae = AE("WS")
    ae.add_requested_context(GET)
    ae.add_requested_context(CTImageStorage)
    assoc = ae.associate("127.0.0.1", node.receiver.port, ae_title="DICOMNODE")
    [*_, (status, identifier)] = assoc.send_c_get(
        keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID), GET
    )
    assoc.release()
    assert counts(status) == (0xA702, None, 0, 2, 0)
    assert set(identifier.FailedSOPInstanceUIDList) == uids(kept)


def test_nothing_that_matches_is_a_success(node: Archive) -> None:
    [(status, identifier)] = Requestor(node).get(keys("STUDY", StudyInstanceUID="1.2.3"))
    assert (counts(status), identifier) == ((0x0000, None, 0, 0, 0), None)


def test_a_list_of_uids_names_several(node: Archive) -> None:
    kept = node.keep_study(series=1)
    first, _, third = kept
    requestor = Requestor(node)
    requestor.get(
        keys(
            "IMAGE",
            StudyInstanceUID=first.StudyInstanceUID,
            SeriesInstanceUID=first.SeriesInstanceUID,
            SOPInstanceUID=[first.SOPInstanceUID, third.SOPInstanceUID],
        )
    )
    assert uids(requestor.stored) == uids([first, third])


@pytest.mark.parametrize(
    ("identifier", "model"),
    [
        (keys("STUDY"), GET),
        (keys("PATIENT", PatientID="P1"), GET),
        (keys("SERIES", SeriesInstanceUID="1.2"), GET),
        (keys("PATIENT", PatientID="P*"), PatientRootQueryRetrieveInformationModelGet),
        (keys("STUDY", StudyInstanceUID="1.2"), PatientRootQueryRetrieveInformationModelGet),
        (keys("STUDY", StudyInstanceUID="no uid"), GET),
    ],
    ids=["no key", "level", "no key above", "wildcard", "no patient", "no uid"],
)
def test_an_identifier_that_does_not_suit_the_model_is_refused(
    node: Archive, identifier: Dataset, model: str
) -> None:
    node.keep_study()
    [(status, _)] = Requestor(node).get(identifier, model)
    assert status.Status == 0xA900


def test_a_cancelled_retrieval_ends_and_says_what_remains(node: Archive) -> None:
    kept = node.keep_study(series=1, instances=200)
    requestor = Requestor(node)
    answers = requestor.assoc.send_c_get(
        keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID), GET, msg_id=7
    )
    assert next(answers)[0].Status == 0xFF00
    requestor.assoc.send_c_cancel(7, query_model=GET)
    status, _ = list(answers)[-1]
    requestor.assoc.release()
    assert status.Status == 0xFE00
    assert status.NumberOfRemainingSuboperations == 200 - status.NumberOfCompletedSuboperations > 0


def test_the_association_lives_on_after_a_retrieval(node: Archive) -> None:
    kept = node.keep_study(series=1, instances=2)
    requestor = Requestor(node)
    wanted = keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID)
    for _ in range(2):
        assert list(requestor.assoc.send_c_get(wanted, GET))[-1][0].Status == 0x0000
    requestor.assoc.release()
    assert len(requestor.stored) == 4


def test_an_unknown_move_destination_is_refused(node: Archive) -> None:
    kept = node.keep_study()
    wanted = keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID)
    [(status, _)] = Requestor(node).move(wanted, to="ELSEWHERE")
    assert status.Status == 0xA801


def test_a_move_destination_that_is_not_there_fails_each(node: Archive) -> None:
    kept = node.keep_study(series=1)
    status, identifier = Requestor(node).move(
        keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID), to="NOBODY"
    )[-1]
    assert counts(status) == (0xA702, None, 0, 3, 0)
    assert set(identifier.FailedSOPInstanceUIDList) == uids(kept)


def test_the_receiver_of_a_move_is_told_who_asked_for_it(tmp_path: Path) -> None:
    originators = []

    def store(event: evt.Event) -> int:
        request = event.request
        originators.append((request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID))
        return 0x0000

    ae = AE("DEST")
    ae.add_supported_context(CTImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        with archive(tmp_path, [Peer("DEST", "127.0.0.1", server.server_address[1])]) as node:
            kept = node.keep_study(series=1, instances=2)
            assoc = Requestor(node).assoc
            wanted = keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID)
            assert list(assoc.send_c_move(wanted, "DEST", MOVE, msg_id=77))[-1][0].Status == 0x0000
            assoc.release()
    finally:
        server.shutdown()
    assert originators == [("WS", 77)] * 2


@pytest.mark.parametrize("option", ["+xe", "+xi"])
@pytest.mark.parametrize(
    "syntax",
    ["JPEGLSLossless", "JPEG2000LosslessOnly", "RLELossless", "JPEGProcess14SV1", "BigEndianExplicit",
     "DeflatedExplicitVRLittleEndian", "LittleEndianImplicit"],
)  # fmt: skip
def test_who_takes_no_compression_gets_the_same_pixels_without(
    tmp_path: Path, shared_data: Path, syntax: str, option: str
) -> None:
    [file] = (shared_data / "codecs").glob(f"CTImage_{syntax}*.dcm")
    arrived = tmp_path / "arrived"
    with storescp(arrived, option) as peer, archive(tmp_path, [peer]) as node:
        kept = node.keep_file(file)
        answers = Requestor(node).move(keys("STUDY", StudyInstanceUID=kept.StudyInstanceUID))
    assert answers[-1][0].Status == 0x0000
    [ds] = read(arrived)
    assert ds.file_meta.TransferSyntaxUID in ([ImplicitVRLittleEndian] if option == "+xi" else NATIVE)
    assert ds.SOPInstanceUID == kept.SOPInstanceUID
    assert (ds.pixel_array == kept.pixel_array).all()


def test_who_takes_the_compression_gets_it_untouched(shared_data: Path, node: Archive) -> None:
    [file] = (shared_data / "codecs").glob("CTImage_JPEGLSLossless*.dcm")
    kept = node.keep_file(file)
    requestor = Requestor(node, JPEGLSLossless)
    requestor.get(keys("STUDY", StudyInstanceUID=kept.StudyInstanceUID))
    [ds] = requestor.stored
    assert ds.file_meta.TransferSyntaxUID == JPEGLSLossless
    assert ds.PixelData == kept.PixelData


def test_what_cannot_be_sent_is_a_failed_suboperation_and_the_rest_goes_on(node: Archive) -> None:
    kept = node.keep_study(series=1)
    lost = node.keep(small_ct(StudyInstanceUID=kept[0].StudyInstanceUID))
    last = node.keep(small_ct(StudyInstanceUID=kept[0].StudyInstanceUID))
    with node.database.read() as tx:
        [stored] = stored_instances(tx, SOPInstanceUID=str(lost.SOPInstanceUID))
    node.objects.remove(stored.sha256)
    requestor = Requestor(node)
    status, identifier = requestor.get(keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID))[-1]
    assert counts(status) == (0xB000, None, 4, 1, 0)
    assert identifier.FailedSOPInstanceUIDList == lost.SOPInstanceUID
    assert last.SOPInstanceUID in uids(requestor.stored)


def test_a_requestor_that_goes_away_in_the_middle_is_not_waited_for(node: Archive) -> None:
    kept = node.keep_study(series=1, instances=20)
    gone = threading.Event()
    requestor = Requestor(node)

    def go(event: evt.Event) -> int:
        event.assoc.abort()
        gone.set()
        return 0x0000

    requestor.assoc.bind(evt.EVT_C_STORE, go)
    wanted = keys("STUDY", StudyInstanceUID=kept[0].StudyInstanceUID)
    requestor.assoc.dimse_timeout = 1
    asking = threading.Thread(target=list, args=(requestor.assoc.send_c_get(wanted, GET),))
    asking.start()
    assert gone.wait(20)
    wait_for(lambda: not [one for one in threading.enumerate() if "AcceptorThread" in one.name], limit_s=10.0)
    asking.join()


@pytest.mark.parametrize(("error", "status"), [(StorageFailed("no"), 0xA701), (ZeroDivisionError(), 0x0110)])
def test_a_catalog_that_cannot_be_asked_is_answered_with_its_status(
    start_node: StartNode, error: Exception, status: int
) -> None:
    def refuse(*_: object) -> list[OutgoingInstance]:
        raise error

    node = start_node(more=[get(refuse)])
    ae = AE("WS")
    ae.add_requested_context(GET)
    assoc = ae.associate("127.0.0.1", node.receiver.port, ae_title="DICOMNODE")
    [(answer, _)] = assoc.send_c_get(keys("STUDY", StudyInstanceUID="1.2"), GET)
    assoc.release()
    assert answer.Status == status


def test_a_request_for_another_class_than_the_contexts_is_refused(node: Archive) -> None:
    requestor = Requestor(node)
    context = next(one for one in requestor.assoc.accepted_contexts if one.abstract_syntax == GET)
    context.abstract_syntax = PatientRootQueryRetrieveInformationModelGet
    requestor.assoc._accepted_cx = {context.context_id: context}
    [(status, _)] = requestor.get(
        keys("PATIENT", PatientID="P1"), PatientRootQueryRetrieveInformationModelGet
    )
    assert status.Status == 0x0122
