"""What comes in is kept as it came, entered once, or refused for a reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import pydicom
import pytest
from pydicom.filewriter import dcmwrite
from sqlalchemy import func, select

from dicomnode.errors import (
    ClassRefused,
    DuplicateDiffers,
    IngestError,
    InvalidUID,
    MissingUID,
    NotDicom,
    StorageFailed,
    UIDMismatch,
)
from dicomnode.model.instance import Addition, AssociationFacts, Received
from dicomnode.services.ingest import Ingest
from dicomnode.store import catalog, overview
from dicomnode.store.database import Database
from dicomnode.store.known_series import NotKnown
from dicomnode.store.objects import ObjectStore
from dicomnode.store.schema import audit, instance, study
from tests.harness.heads import small_series
from tests.harness.schema import upgraded
from tests.peers import wait_for

ASSOCIATION = AssociationFacts("a", "CT1", "NODE", "127.0.0.1")


def received(ds: pydicom.Dataset) -> Received:
    buffer = BytesIO()
    bare = pydicom.Dataset(ds)
    dcmwrite(buffer, bare, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return Received(
        ASSOCIATION, ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID, buffer.getvalue()
    )


@pytest.fixture
def database(tmp_path) -> Database:
    return upgraded(f"sqlite:///{tmp_path / 'd.sqlite3'}")


@pytest.fixture
def objects(tmp_path) -> ObjectStore:
    return ObjectStore(tmp_path, 0)


@pytest.fixture
def ingest(database, objects) -> Ingest:
    return Ingest(database, objects)


def test_the_bytes_are_kept_as_they_came_in_a_file_that_others_read(ingest, database, objects):
    came = received(small_series(1)[0])
    assert ingest.store(came) is Addition.ADDED
    with database.read() as tx:
        digest = tx.execute(select(instance.c.sha256)).scalar_one()
    kept = objects.read(digest)
    assert kept.endswith(came.data)
    assert pydicom.dcmread(BytesIO(kept)).SOPInstanceUID == came.SOPInstanceUID


def test_a_resent_instance_is_acknowledged_and_kept_once(ingest, database):
    came = received(small_series(1)[0])
    assert [ingest.store(came), ingest.store(came)] == [Addition.ADDED, Addition.REPEATED]
    with database.read() as tx:
        assert overview.counts(tx)["instances"] == 1


def test_other_content_under_the_same_uids_is_refused_audited_and_not_kept(ingest, database, tmp_path):
    ds = small_series(1)[0]
    ingest.store(received(ds))
    ds.PatientName = "Other^Name"
    with pytest.raises(DuplicateDiffers):
        ingest.store(received(ds))
    with database.read() as tx:
        assert tx.execute(select(audit.c.event)).scalar_one() == "duplicate_differs"
    assert len([path for path in (tmp_path / "objects").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"StudyInstanceUID": ""}, MissingUID),
        ({"SeriesInstanceUID": "1.2.../../etc"}, InvalidUID),
        ({"SOPInstanceUID": "1.2.840." + "1" * 60}, InvalidUID),
        ({"SeriesInstanceUID": "1.2\x00.3"}, InvalidUID),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, UIDMismatch),
    ],
)
def test_an_instance_without_a_clear_identity_is_refused(ingest, database, change, error):
    ds = small_series(1)[0]
    honest = received(ds)
    for keyword, value in change.items():
        setattr(ds, keyword, value)
    with pytest.raises(error):
        ingest.store(
            replace(received(ds), SOPClassUID=honest.SOPClassUID, SOPInstanceUID=str(ds.SOPInstanceUID))
        )
    with database.read() as tx:
        assert overview.counts(tx)["instances"] == 0


@pytest.mark.parametrize(
    "data", [b"", b"junk", b"\x00" * 500, b"\xff" * 500], ids=["none", "junk", "zeros", "ones"]
)
def test_bytes_that_are_no_data_set_are_refused_and_leave_no_file(ingest, tmp_path, data):
    with pytest.raises(IngestError):
        ingest.store(replace(received(small_series(1)[0]), data=data))
    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []


def test_a_deflated_data_set_that_does_not_inflate_is_refused(ingest):
    came = replace(received(small_series(1)[0]), TransferSyntaxUID="1.2.840.10008.1.2.1.99")
    with pytest.raises(NotDicom):
        ingest.store(came)


@pytest.mark.parametrize("number", ["", "1e99", "-5", "abc", "99999999999999"])
def test_junk_numbers_are_kept_out_of_the_rows(ingest, database, number):
    ds = small_series(1)[0]
    ds.add(pydicom.DataElement("ImagesInAcquisition", "LO", number))
    ingest.store(received(ds))
    with database.read() as tx:
        assert overview.counts(tx)["instances"] == 1


def test_instances_that_come_together_are_kept_together_and_a_refused_one_costs_only_itself(
    ingest, database, objects
):
    first, other = small_series(3), small_series(2)
    ingest.store(received(first[1]))
    first[1].PatientName = "Other^Name"
    arrived = []
    for ds in (first[0], other[1], first[1], other[0], first[2], first[0]):
        came = received(ds)
        incoming = ingest.begin(came)
        incoming.write(came.data)
        incoming.end(ahead=True)
        arrived.append(incoming)
    outcomes = ingest.keep(arrived)
    assert [isinstance(outcome, DuplicateDiffers) for outcome in outcomes] == [False] * 2 + [True] + [
        False
    ] * 3
    assert [outcomes[0], outcomes[1], outcomes[5]] == [Addition.ADDED, Addition.ADDED, Addition.REPEATED]
    with database.read() as tx:
        assert overview.counts(tx)["instances"] == 5
        for digest in tx.execute(select(instance.c.sha256)).scalars():
            assert objects.intact(digest)


def test_a_header_that_is_longer_than_what_is_held_in_memory_is_read_all_the_same(ingest, database):
    ds = small_series(1)[0]
    ds.add_new(0x00080001, "UN", bytes(100_000))
    ingest.store(received(ds))
    with database.read() as tx:
        assert tx.execute(select(study.c.PatientName)).scalar_one() == "Doe^Jane"


@pytest.mark.parametrize("is_undefined_length", [True, False])
def test_a_sequence_that_is_longer_than_what_is_held_in_memory_is_read_all_the_same(
    ingest, database, is_undefined_length
):
    ds = small_series(1)[0]
    ds.ReferencedImageSequence = [pydicom.Dataset() for _ in range(5000)]
    ds["ReferencedImageSequence"].is_undefined_length = is_undefined_length
    ingest.store(received(ds))
    with database.read() as tx:
        assert tx.execute(select(study.c.PatientName)).scalar_one() == "Doe^Jane"


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.3.10", "1.2.3.4"], ids=["DICOMDIR", "unknown"])
def test_a_class_whose_instances_are_not_stored_is_refused(ingest, uid):
    with pytest.raises(ClassRefused):
        ingest.store(replace(received(small_series(1)[0]), SOPClassUID=uid))


def test_names_in_any_script_are_in_the_catalog_as_they_are_written(ingest, database):
    ds = small_series(1)[0]
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    ingest.store(received(ds))
    with database.read() as tx:
        assert tx.execute(select(study.c.PatientName)).scalar_one() == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def not_known(*_: object) -> None:
    raise NotKnown


def test_who_stores_at_the_same_time_suffers_from_nobody_else(ingest, database, monkeypatch):
    """What cannot be entered costs only itself, though all are committed together."""
    came = [received(ds) for ds in small_series(6)]
    poison, add_instances = came[2].SOPInstanceUID, catalog.add_instances

    def add(tx, arrivals):
        if poison in {arrival.SOPInstanceUID for arrival in arrivals}:
            raise StorageFailed("not this one")
        return add_instances(tx, arrivals)

    monkeypatch.setattr(catalog, "add_instances", add)
    monkeypatch.setattr("dicomnode.services.ingest.add_to_known", not_known)
    with ThreadPoolExecutor(len(came)) as pool, database.begin():
        outcomes = [pool.submit(ingest.store, each) for each in came]
        # The first waits for the database, and the others for the first.
        wait_for(lambda: len(ingest._committed._waiting) == len(came) - 1)
    failed = [outcome.exception() is not None for outcome in outcomes]
    assert failed == [each.SOPInstanceUID == poison for each in came]
    with database.read() as tx:
        assert tx.execute(select(func.count()).select_from(instance)).scalar_one() == len(came) - 1


def test_what_is_written_little_by_little_is_kept_as_a_whole(ingest):
    came = received(small_series(1)[0])
    incoming = ingest.begin(came)
    for at in range(0, len(came.data), 1000):
        incoming.write(memoryview(came.data)[at : at + 1000])
    assert ingest.store(incoming) is Addition.ADDED
    assert ingest.store(came) is Addition.REPEATED
