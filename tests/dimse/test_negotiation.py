"""What is proposed beside presentation contexts, and how it is answered (PS3.7 D.3.3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, build_role
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicomnode.dimse.users import Users
from dicomnode.model.passcode import hash_passcode, require_hashed, verify_passcode
from tests.dimse.archive import Archive, archive
from tests.dimse.nodes import Node, StartNode, small_ct
from tests.peers import run

FIND = StudyRootQueryRetrieveInformationModelFind


def associate(
    node: Node | Archive, *items: object, classes: tuple[str, ...] = (Verification,)
) -> Association:
    ae = AE("CT1")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    for uid in classes:
        ae.add_requested_context(uid)
    return ae.associate("127.0.0.1", node.receiver.port, ae_title="DICOMNODE", ext_neg=list(items))


def identity(kind: int, primary: bytes, secondary: bytes | None = None) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.primary_field = primary
    item.positive_response_requested = True
    if secondary is not None:
        item.secondary_field = secondary
    return item


def options(uid: str, information: bytes) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = uid
    item.service_class_application_information = information
    return item


USERS = Users({"anna": hash_passcode("secret"), "robot": ""})


@pytest.mark.parametrize(
    ("kind", "primary", "secondary", "admitted"),
    [
        (2, b"anna", b"secret", True),
        (2, b"anna", b"wrong", False),
        (2, b"nobody", b"secret", False),
        (1, b"anna", None, False),
        (1, b"robot", None, True),
        (3, b"ticket", None, False),
        (4, b"assertion", None, False),
        (5, b"a.b.c", None, False),
        (2, b"\xff\xfe", b"\xff", False),
    ],
)
def test_a_user_is_let_in_by_name_and_passcode_and_told_so(
    start_node: StartNode, kind: int, primary: bytes, secondary: bytes | None, admitted: bool
) -> None:
    assoc = associate(start_node(users=USERS), identity(kind, primary, secondary))
    assert assoc.is_established is admitted
    if admitted:
        assert assoc.acceptor.user_identity.server_response == b""
        assoc.release()
    else:
        answer = assoc.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (1, 2, 1)


def test_who_names_nobody_is_let_in_unless_that_is_required(start_node: StartNode) -> None:
    assert associate(start_node(users=USERS)).is_established
    assert associate(start_node(users=Users(USERS.passcodes, required=True))).is_rejected


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
def test_a_node_without_users_lets_in_and_confirms_nobody(start_node: StartNode, kind: int) -> None:
    assoc = associate(start_node(), identity(kind, b"anna", b"secret" if kind == 2 else None))
    assert assoc.is_established
    assert assoc.acceptor.user_identity is None
    assoc.release()


def test_storescu_says_who_it_is(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node(users=Users(USERS.passcodes, required=True))
    file = tmp_path / "one.dcm"
    small_ct().save_as(file, implicit_vr=False, little_endian=True, enforce_file_format=False)
    at = ("-aec", "DICOMNODE", "127.0.0.1", node.receiver.port)
    run("storescu", "--user", "anna", "--password", "secret", "--pos-response", *at, file)
    assert len(node.received) == 1
    done = run("storescu", "--user", "anna", "--password", "wrong", *at, file, check=False)
    assert done.returncode != 0
    assert len(node.received) == 1


def test_a_passcode_is_verified_by_its_hash_alone() -> None:
    hashed = hash_passcode("sécret:1")
    assert verify_passcode("sécret:1", hashed)
    assert not verify_passcode("secret:1", hashed)
    assert hash_passcode("x") != hash_passcode("x")
    assert require_hashed(hashed) == hashed
    for wrong in ("secret", "scrypt:2:8:1:AA==:AA==", hashed.replace("scrypt", "md5"), "", "a:b"):
        with pytest.raises(ValueError, match="hashed"):
            require_hashed(wrong)


def test_one_operation_at_a_time_is_the_answer_to_any_window(start_node: StartNode) -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 0
    assoc = associate(start_node(), window)
    assert assoc.is_established
    assert assoc.acceptor.asynchronous_operations == (1, 1)
    assoc.release()


def test_a_requestor_may_be_scp_for_storage(start_node: StartNode) -> None:
    roles = build_role(CTImageStorage, scu_role=True, scp_role=True)
    assoc = associate(start_node(), roles, classes=(CTImageStorage,))
    [context] = assoc.accepted_contexts
    assert (context.as_scu, context.as_scp) == (True, True)
    assoc.release()


@pytest.mark.parametrize(
    ("uid", "proposed", "agreed"),
    [
        (FIND, b"\x01\x01\x01\x01\x01", b"\x01\x01\x01\x00\x00"),
        (FIND, b"\x01", b"\x01"),
        (FIND, b"\x00\x01", b"\x00\x01"),
        (StudyRootQueryRetrieveInformationModelMove, b"\x01\x01", b"\x01\x00"),
    ],
)
def test_what_is_not_supported_of_the_options_is_declined(
    tmp_path: Path, uid: str, proposed: bytes, agreed: bytes
) -> None:
    with archive(tmp_path) as node:
        assoc = associate(node, options(uid, proposed), classes=(uid,))
        assert assoc.acceptor.sop_class_extended == {uid: agreed}
        assoc.release()


def test_options_of_a_class_that_has_none_are_not_answered(start_node: StartNode) -> None:
    assoc = associate(start_node(), options(Verification, b"\x01"))
    assert assoc.acceptor.sop_class_extended == {}
    assoc.release()


def found(node: Archive, level: str, *items: object, model: str = FIND, **keys: object) -> list[Dataset]:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    assoc = associate(node, *items, classes=(model,))
    answers = list(assoc.send_c_find(ds, model))
    assoc.release()
    assert answers[-1][0].Status == 0x0000, f"{answers[-1][0].Status:04X}"
    return [match for _, match in answers if match is not None]


def test_relational_queries_need_no_keys_of_the_levels_above(tmp_path: Path) -> None:
    with archive(tmp_path) as node:
        kept = node.keep_study()
        relational = options(FIND, b"\x01")
        matches = found(node, "IMAGE", relational, SOPInstanceUID="", PatientID="P1")
        assert {ds.SOPInstanceUID for ds in matches} == {ds.SOPInstanceUID for ds in kept}
        assert {ds.StudyInstanceUID for ds in matches} == {kept[0].StudyInstanceUID}
        with pytest.raises(AssertionError, match="A900"):
            found(node, "IMAGE", SOPInstanceUID="", PatientID="P1")


def test_a_range_of_dates_and_one_of_times_are_one_only_where_agreed(tmp_path: Path) -> None:
    with archive(tmp_path) as node:
        for date, time in (
            ("20240506", "0900"),
            ("20240506", "1500"),
            ("20240507", "0800"),
            ("20240507", "1300"),
        ):
            node.keep(small_ct(StudyDate=date, StudyTime=time + "00"))
        asked = {"StudyDate": "20240506-20240507", "StudyTime": "1200-1230"}
        assert found(node, "STUDY", **asked) == []
        matches = found(node, "STUDY", options(FIND, b"\x00\x01"), **asked)
        assert {(ds.StudyDate, ds.StudyTime) for ds in matches} == {
            ("20240506", "150000"),
            ("20240507", "080000"),
        }


def test_names_match_by_the_beginnings_of_their_words_where_agreed(tmp_path: Path) -> None:
    with archive(tmp_path) as node:
        node.keep(small_ct(PatientName="Müller^Hans-Peter", SpecificCharacterSet="ISO_IR 192"))
        assert found(node, "STUDY", PatientName="mul") == []
        matches = found(node, "STUDY", options(FIND, b"\x00\x00\x01"), PatientName="hans mul")
        assert [str(ds.PatientName) for ds in matches] == ["Müller^Hans-Peter"]


@pytest.mark.parametrize(
    "model", [PatientRootQueryRetrieveInformationModelFind, PatientStudyOnlyQueryRetrieveInformationModelFind]
)
def test_patients_are_found_with_what_there_is_of_them(tmp_path: Path, model: str) -> None:
    with archive(tmp_path) as node:
        node.keep_study(PatientID="P1", series=2, instances=3)
        node.keep_study(PatientID="P1", series=1, instances=1)
        node.keep_study(PatientID="P2")
        asked = {
            "PatientID": "P1",
            "PatientName": "",
            "NumberOfPatientRelatedStudies": "",
            "NumberOfPatientRelatedInstances": "",
        }
        [patient] = found(node, "PATIENT", model=model, **asked)
        assert (patient.PatientID, patient.PatientName) == ("P1", "Doe^Jane")
        assert (patient.NumberOfPatientRelatedStudies, patient.NumberOfPatientRelatedInstances) == (2, 7)
        assert patient.RetrieveAETitle == "DICOMNODE"
        studies = found(node, "STUDY", model=model, PatientID="P1", ModalitiesInStudy="")
        assert [ds.ModalitiesInStudy for ds in studies] == ["CT", "CT"]
        assert {ds.PatientID for ds in studies} == {"P1"}
        with pytest.raises(AssertionError, match="A900"):
            found(node, "STUDY", model=model, StudyInstanceUID="")


def test_patient_study_only_ends_with_the_study(tmp_path: Path) -> None:
    with archive(tmp_path) as node, pytest.raises(AssertionError, match="A900"):
        found(node, "SERIES", model=PatientStudyOnlyQueryRetrieveInformationModelFind, PatientID="P1",
              StudyInstanceUID="1.2")  # fmt: skip


@pytest.mark.parametrize(("keyword", "status"), [("StudyDescription", 0xFF00), ("PatientComments", 0xFF01)])
def test_a_key_that_is_not_matched_is_told_with_each_response(
    tmp_path: Path, keyword: str, status: int
) -> None:
    with archive(tmp_path) as node:
        node.keep_study()
        ds = Dataset()
        ds.QueryRetrieveLevel, ds.StudyInstanceUID = "STUDY", ""
        setattr(ds, keyword, "")
        assoc = associate(node, classes=(FIND,))
        assert [answer.Status for answer, _ in assoc.send_c_find(ds, FIND)] == [status, 0x0000]
        assoc.release()
