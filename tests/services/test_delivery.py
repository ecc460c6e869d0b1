"""A courier offers what is whole, once it is due, and gives back what it cannot offer before a stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import BytesIO
from types import SimpleNamespace

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage

from dicomnode.config import DeliverySection, Destination
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.services.delivery import Courier
from dicomnode.services.destinations import courier_for
from dicomnode.store import deliveries, leases, overview
from dicomnode.store.objects import ObjectStore
from tests.harness.heads import small_series
from tests.harness.schema import upgraded
from tests.peers import wait_for
from tests.store.builders import complete_series, new_job


def encoded(ds: Dataset) -> EncodedResult:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    uids = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPClassUID, ds.SOPInstanceUID)
    return EncodedResult(
        ResultRole.DERIVED, *map(str, (*uids, ds.file_meta.TransferSyntaxUID)), buffer.getvalue()
    )


@pytest.fixture
def outbox(tmp_path):
    """Three results that are due for `pacs`."""
    database, objects = upgraded(f"sqlite:///{tmp_path / 'd.sqlite3'}"), ObjectStore(tmp_path, 0)
    completion_id = complete_series(database)
    with database.begin() as tx:
        new_job(tx, completion_id)
        job = leases.claim(tx, "w1", 30)
        assert job is not None
        made = [encoded(ds) for ds in small_series(3)]
        stored = [(each, objects.put(each.data)) for each in made]
        for result_id in leases.finish(tx, job.lease, stored):
            deliveries.add(tx, result_id, "pacs")
    yield SimpleNamespace(database=database, objects=objects, stored=[where for _, where in stored])
    database.close()


@pytest.fixture
def archive() -> Iterator[SimpleNamespace]:
    """A store that answers success, and does to `on_store` what a test wants before it answers."""
    seen = SimpleNamespace(stored=[], on_store=lambda: None, port=0)

    def store(event: evt.Event) -> int:
        seen.on_store()
        seen.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    ae = AE("PACS")
    ae.add_supported_context(MRImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    seen.port = server.server_address[1]
    yield seen
    server.shutdown()


def courier_of(outbox, port: int) -> Courier:
    destination = Destination.model_validate(
        {"name": "pacs", "confirm": "none", "dimse": {"ae_title": "PACS", "host": "127.0.0.1", "port": port}}
    )
    return courier_for(outbox.database, outbox.objects, destination, "NODE", DeliverySection())


def states(outbox) -> list[tuple[str, int]]:
    with outbox.database.read() as tx:
        found = overview.deliveries(tx)
    return [(record["state"], record["attempt"]) for record in reversed(found)]


def test_a_stop_lets_the_instance_in_the_air_arrive_and_gives_the_others_back(outbox, archive):
    stop = threading.Event()
    archive.on_store = stop.set
    courier_of(outbox, archive.port).tick(stop.is_set)
    assert len(archive.stored) == 1
    assert states(outbox) == [("sent", 1), ("pending", 0), ("pending", 0)]


def test_what_hangs_in_a_silent_archive_beyond_the_stop_is_given_back(outbox, archive):
    asked, answer = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        answer.wait(30)

    archive.on_store = hang
    courier = courier_of(outbox, archive.port)
    sending = threading.Thread(target=courier.tick)
    sending.start()
    assert asked.wait(30)
    courier.hand_back()
    assert states(outbox) == [("pending", 0)] * 3
    archive.on_store = lambda: None
    answer.set()
    sending.join(30)
    assert states(outbox) == [("pending", 0)] * 3
    courier.tick()
    assert states(outbox) == [("sent", 1)] * 3


def test_a_result_that_the_disk_has_changed_is_never_sent_and_says_why(outbox, archive):
    path = outbox.objects.path(outbox.stored[1].sha256)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    courier_of(outbox, archive.port).tick()
    wait_for(lambda: len(archive.stored) == 2)
    assert states(outbox) == [("sent", 1), ("dead", 1), ("sent", 1)]
    with outbox.database.read() as tx:
        assert overview.deliveries(tx, ("dead",))[0]["reason"] == "the stored result is not what the job made"
