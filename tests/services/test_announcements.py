"""Instance Availability Notification and MPPS, sent by pynetdicom: what is told is durable, then answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import InstanceAvailabilityNotification, ModalityPerformedProcedureStep

from dicomnode.config import CompletionSection
from dicomnode.dimse.ian import ian
from dicomnode.dimse.mpps import mpps
from dicomnode.dimse.receiver import Receiver
from dicomnode.errors import StorageFailed
from dicomnode.services.announcements import Announcements
from dicomnode.services.completion import CompletionService
from dicomnode.store import catalog, overview
from dicomnode.store.database import Database
from tests.dimse.nodes import AE_TITLE, SETTINGS
from tests.harness.schema import upgraded
from tests.store.builders import arrival

IAN, MPPS = InstanceAvailabilityNotification, ModalityPerformedProcedureStep
SERIES, OTHER = "1.2.3.4", "1.2.3.5"
STEP = "1.2.840.1"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = upgraded(f"sqlite:///{tmp_path / 'node.sqlite3'}")
    yield database
    database.close()


@contextmanager
def sender(taken: Announcements) -> Iterator[Association]:
    """A peer that negotiated both classes."""
    receiver = Receiver(SETTINGS, [ian(taken.take), mpps(taken.create_step, taken.modify_step)])
    receiver.start()
    try:
        ae = AE("RIS")
        for SOPClassUID in (IAN, MPPS):
            ae.add_requested_context(SOPClassUID)
        assoc = ae.associate("127.0.0.1", receiver.port, ae_title=AE_TITLE)
        assert len(assoc.accepted_contexts) == 2
        yield assoc
        assoc.release()
    finally:
        receiver.stop(0.5)


def item(**elements: object) -> Dataset:
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def reference(series: str, number: int, availability: str = "ONLINE") -> Dataset:
    return item(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.4",
        ReferencedSOPInstanceUID=f"{series}.{number}",
        InstanceAvailability=availability,
        RetrieveAETitle="PACS",
    )


def notification(**series: list[Dataset]) -> Dataset:
    listed = [
        item(SeriesInstanceUID={"first": SERIES, "second": OTHER}[name], ReferencedSOPSequence=references)
        for name, references in series.items()
    ]
    return item(
        StudyInstanceUID="1.2.3", ReferencedPerformedProcedureStepSequence=[], ReferencedSeriesSequence=listed
    )


def step(state: str | None = None, *numbers: int) -> Dataset:
    ds = item(PerformedProcedureStepStatus=state) if state else item(PerformedProcedureStepDescription="Head")
    if numbers:
        *images, other = [reference(SERIES, number) for number in numbers]
        ds.PerformedSeriesSequence = [
            item(
                SeriesInstanceUID=SERIES,
                ReferencedImageSequence=images,
                ReferencedNonImageCompositeSOPInstanceSequence=[other],
            )
        ]
    return ds


def keep(database: Database, *numbers: int, series: str = SERIES) -> None:
    with database.begin() as tx:
        for number in numbers:
            catalog.add_instance(tx, replace(arrival(number, series)))


def completed(database: Database) -> list[tuple[str, str]]:
    CompletionService(database, CompletionSection()).tick()
    with database.read() as tx:
        (study,) = overview.studies(tx, None)
    return [
        (series["SeriesInstanceUID"], completion["reason"])
        for series in study["series"]
        for completion in series["completions"]
    ]


def test_a_notification_completes_each_series_as_soon_as_all_of_it_is_here(database: Database) -> None:
    keep(database, 1)
    with sender(Announcements(database)) as assoc:
        told = notification(
            first=[reference(SERIES, 1), reference(SERIES, 2), reference(SERIES, 3, "UNAVAILABLE")],
            second=[reference(OTHER, 1, "NEARLINE")],
        )
        status, _ = assoc.send_n_create(told, IAN, "1.2.9")
        assert status.Status == 0x0000
    assert completed(database) == []
    keep(database, 1, series=OTHER)
    assert completed(database) == [(OTHER, "announced")]
    keep(database, 2)
    assert completed(database) == [(SERIES, "announced"), (OTHER, "announced")]


def test_a_notification_without_a_uid_of_its_own_gets_one(database: Database) -> None:
    with sender(Announcements(database)) as assoc:
        told = notification(first=[reference(SERIES, 1)])
        status, _ = assoc.send_n_create(told, IAN)
        assert status.Status == 0x0000
        status, _ = assoc.send_n_create(step("IN PROGRESS"), MPPS)
        assert status.Status == 0x0000


def without(keyword: str) -> Callable[[Dataset], None]:
    return lambda ds: delattr(ds, keyword)


def bad_uid(ds: Dataset) -> None:
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "../1"


def no_references(ds: Dataset) -> None:
    ds.ReferencedSeriesSequence[0].ReferencedSOPSequence = []


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (without("StudyInstanceUID"), 0x0120),
        (without("ReferencedSeriesSequence"), 0x0120),
        (no_references, 0x0120),
        (bad_uid, 0x0106),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_notification_that_names_nothing_is_refused(database: Database, spoil, status: int) -> None:
    told = notification(first=[reference(SERIES, 1)])
    spoil(told)
    with sender(Announcements(database)) as assoc:
        answer, _ = assoc.send_n_create(told, IAN, "1.2.9")
    assert answer.Status == status


def test_success_is_not_answered_before_it_is_durable(database: Database) -> None:
    class Broken(Announcements):
        def take(self, _: object) -> None:
            raise StorageFailed("no")

    with sender(Broken(database)) as assoc:
        answer, _ = assoc.send_n_create(notification(first=[reference(SERIES, 1)]), IAN, "1.2.9")
    assert answer.Status == 0xA700


def test_a_completed_step_completes_its_series(database: Database) -> None:
    keep(database, 1, 2, 3)
    with sender(Announcements(database)) as assoc:
        assert assoc.send_n_create(step("IN PROGRESS"), MPPS, STEP)[0].Status == 0x0000
        assert assoc.send_n_set(step(None, 1, 2), MPPS, STEP)[0].Status == 0x0000
        assert completed(database) == []
        assert assoc.send_n_set(step("COMPLETED", 1, 2, 3), MPPS, STEP)[0].Status == 0x0000
    assert completed(database) == [(SERIES, "announced")]


def test_a_step_is_refused_where_the_standard_says_so(database: Database) -> None:
    with sender(Announcements(database)) as assoc:
        assert assoc.send_n_create(step("COMPLETED"), MPPS, STEP)[0].Status == 0x0106
        assert assoc.send_n_create(step(), MPPS, STEP)[0].Status == 0x0120
        assert assoc.send_n_set(step("COMPLETED", 1, 2), MPPS, STEP)[0].Status == 0x0112
        assert assoc.send_n_create(step("IN PROGRESS"), MPPS, STEP)[0].Status == 0x0000
        assert assoc.send_n_create(step("IN PROGRESS"), MPPS, STEP)[0].Status == 0x0111
        assert assoc.send_n_set(step("ELSEWHERE"), MPPS, STEP)[0].Status == 0x0106
        assert assoc.send_n_set(step("DISCONTINUED"), MPPS, STEP)[0].Status == 0x0000
        assert assoc.send_n_set(step("COMPLETED", 1, 2), MPPS, STEP)[0].Status == 0x0110
