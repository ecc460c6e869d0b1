"""Rows for the tests of the store, made the way that the services make them."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from dicomnode.model.instance import Arrival, AssociationFacts, StoredObject
from dicomnode.model.job import Job, NewJob, Priority
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.store import catalog, completions, deliveries, jobs, leases
from dicomnode.store.database import Database, Transaction

ASSOCIATION = AssociationFacts("assoc-1", "CT1", "DICOMNODE", "127.0.0.1")


def arrival(number: int = 1, series: str = "1.2.3.4", study: str = "1.2.3", **changes: object) -> Arrival:
    """Instance `number` of a series."""
    SOPInstanceUID = f"{series}.{number}"
    made = Arrival(
        association=ASSOCIATION,
        stored=StoredObject(sha256(SOPInstanceUID.encode()).hexdigest(), 1000 + number),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
        SOPInstanceUID=SOPInstanceUID,
        TransferSyntaxUID="1.2.840.10008.1.2.1",
        study={
            "StudyInstanceUID": study,
            "PatientID": "P1",
            "PatientName": "Doe^Jane",
            "StudyDate": "20260102",
        },
        series={"SeriesInstanceUID": series, "Modality": "MR"},
        instance={
            "InstanceNumber": str(number),
            "Rows": 4,
            "Columns": 4,
            "NumberOfFrames": None,
            "BitsAllocated": 16,
        },
        expected_instances=None,
        minimum_instances=None,
    )
    return replace(made, **changes)


def complete_series(database: Database, instances: int = 3, series: str = "1.2.3.4") -> int:
    """A complete, unrouted series; the id of its completion."""
    with database.begin() as tx:
        for number in range(1, instances + 1):
            catalog.add_instance(tx, arrival(number, series))
        completions.complete_ordered(tx, series)
        return next(c.id for c in completions.unrouted(tx) if c.SeriesInstanceUID == series)


def new_job(tx: Transaction, completion_id: int, key: str = "key", **changes: object) -> int:
    """A ready job of that completion."""
    completion = next(c for c in completions.unrouted(tx, 1000) if c.id == completion_id)
    made = NewJob(
        key=key,
        completion_id=completion_id,
        series_id=completion.series_id,
        generation=completion.generation,
        input_digest="0" * 64,
        route="brain",
        pipeline="brain_tissue",
        pipeline_version="1",
        pipeline_digest="d",
        priority=Priority.ROUTINE,
        send_to=("pacs",),
        notify=("pacs",),
        held_reason=None,
        deadline_s=None,
    )
    return jobs.add(tx, replace(made, **changes))


def encoded(number: int = 1) -> EncodedResult:
    """A result whose bytes do not matter."""
    return EncodedResult(
        role=ResultRole.SEG,
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID=f"2.25.{number}",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4",
        SOPInstanceUID=f"2.25.{number}.1",
        TransferSyntaxUID="1.2.840.10008.1.2.1",
        data=b"",
    )


def finished_job(database: Database, results: int = 1) -> Job:
    """A job that is done, with its results and one delivery each to `pacs`."""
    completion_id = complete_series(database)
    with database.begin() as tx:
        new_job(tx, completion_id)
        job = leases.claim(tx, "w1", 30)
        assert job is not None
        made = [(encoded(n), StoredObject(f"{n:064x}", 1)) for n in range(1, results + 1)]
        for result_id in leases.finish(tx, job.lease, made):
            deliveries.add(tx, result_id, "pacs")
        return jobs.get(tx, job.id)
