"""An instance comes in: checked, kept, entered in the catalog; only then may it be acknowledged."""

from __future__ import annotations

from io import BytesIO

import structlog
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import dcmread

from dicomnode.errors import DuplicateDiffers, InvalidUID, MissingUID, NotDicom, StorageFailed, UIDMismatch
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.instance import Addition, Arrival, Received, StoredObject
from dicomnode.model.job import PATIENT_CONFLICT
from dicomnode.model.uid import is_valid_uid
from dicomnode.store import audit, catalog, jobs
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from dicomnode.store.part10 import file_head

log = structlog.get_logger()

STUDY_KEYWORDS = (
    "StudyInstanceUID",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "ReferringPhysicianName",
)
SERIES_KEYWORDS = (
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "BodyPartExamined",
    "SeriesDate",
    "SeriesTime",
)
_HEADER_KEYWORDS = [
    *STUDY_KEYWORDS,
    *SERIES_KEYWORDS,
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "NumberOfSeriesRelatedInstances",
    "ImagesInAcquisition",
]


class Ingest:
    """Takes instances in; safe to call from several threads at once."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database, self._objects = database, objects

    def store(self, received: Received) -> Addition:
        """Keep one instance. When this returns, its bytes and its row survive a power failure.

        Raises IngestError where it is refused for good, StoreError where it could not be kept.
        """
        head = file_head(received.SOPClassUID, received.SOPInstanceUID, received.TransferSyntaxUID)
        header = _read_header(head + received.data)
        _require_identity(received, header)
        stored = self._objects.put(head, received.data)
        arrival = _arrival(received, header, stored)
        try:
            with self._database.begin() as tx:
                addition = catalog.add_instance(tx, arrival)
                if catalog.note_patient_conflict(tx, arrival):
                    jobs.hold_study(tx, arrival.study["StudyInstanceUID"], PATIENT_CONFLICT)
                # A start that tidies up may have taken the file for an orphan's until this moment.
                if not self._objects.holds(stored):
                    raise StorageFailed("the object is gone")
        except DuplicateDiffers:
            self._note_duplicate(arrival)
            raise
        log.debug("instance.stored", addition=addition, size=stored.size)
        return addition

    def _note_duplicate(self, arrival: Arrival) -> None:
        with self._database.begin() as tx:
            audit.record(
                tx,
                "duplicate_differs",
                {
                    "SOPInstanceUID": arrival.SOPInstanceUID,
                    "refused_sha256": arrival.stored.sha256,
                    "calling_ae": arrival.association.calling_ae,
                    "address": arrival.association.address,
                },
            )
        self._objects.remove(arrival.stored.sha256)


def _read_header(data: bytes) -> Dataset:
    try:
        header = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=_HEADER_KEYWORDS)
        for keyword in _HEADER_KEYWORDS:
            header.get(keyword)
    except (InvalidDicomError, *UNREADABLE) as error:
        raise NotDicom(f"the data set cannot be read: {type(error).__name__}") from error
    return header


def _require_identity(received: Received, header: Dataset) -> None:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        uid = str(header.get(keyword) or "")
        if not uid:
            raise MissingUID(keyword)
        if not is_valid_uid(uid):
            raise InvalidUID(keyword)
    for keyword in ("SOPInstanceUID", "SOPClassUID"):
        if str(header[keyword].value) != getattr(received, keyword):
            raise UIDMismatch(keyword)


def _arrival(received: Received, header: Dataset, stored: StoredObject) -> Arrival:
    return Arrival(
        association=received.association,
        stored=stored,
        SOPClassUID=received.SOPClassUID,
        SOPInstanceUID=received.SOPInstanceUID,
        TransferSyntaxUID=received.TransferSyntaxUID,
        study={keyword: _text(header, keyword) for keyword in STUDY_KEYWORDS},
        series={keyword: _text(header, keyword) for keyword in SERIES_KEYWORDS},
        instance={
            "InstanceNumber": _text(header, "InstanceNumber"),
            **{keyword: _count(header, keyword) for keyword in ("Rows", "Columns", "NumberOfFrames")},
        },
        expected_instances=_count(header, "NumberOfSeriesRelatedInstances"),
        minimum_instances=_count(header, "ImagesInAcquisition"),
    )


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).replace("\x00", "")


def _count(header: Dataset, keyword: str) -> int | None:
    """A whole number that a database takes; None where the header has none or nonsense."""
    try:
        value = int(str(header.get(keyword)))
    except ValueError:
        return None
    return value if 0 < value < 2**31 else None
