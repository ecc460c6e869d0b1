"""An instance comes in: checked, kept, entered in the catalog; only then may it be acknowledged."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any, BinaryIO, TypeAlias

import structlog
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicomnode.dimse.presentation import STORAGE_CLASSES, TRANSFER_SYNTAXES
from dicomnode.errors import (
    ClassRefused,
    DuplicateDiffers,
    InvalidUID,
    MissingUID,
    NotDicom,
    StorageFailed,
    SyntaxRefused,
    UIDMismatch,
)
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.instance import Addition, Announced, Arrival, Received, StoredObject
from dicomnode.model.job import PATIENT_CONFLICT
from dicomnode.model.uid import is_valid_uid
from dicomnode.store import audit, catalog, jobs
from dicomnode.store.database import Database, Transaction
from dicomnode.store.objects import ObjectStore, Spool
from dicomnode.store.part10 import file_head

log = structlog.get_logger()

INFLATED_LIMIT = 2_000_000_000
"""A deflated data set that is longer when it is inflated is taken for a trap."""
_HEADER_LIMIT = 16_000_000
_BEGINNING = 32_768
_BLOCK = 65_536

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
    "TimezoneOffsetFromUTC",
)
SERIES_KEYWORDS = (
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "BodyPartExamined",
    "SeriesDate",
    "SeriesTime",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
)
REQUEST_KEYWORDS = ("ScheduledProcedureStepID", "RequestedProcedureID")
"""Of the first item of Request Attributes Sequence: what ordered the series."""
IMAGE_KEYWORDS = ("Rows", "Columns", "NumberOfFrames", "BitsAllocated")
_HEADER_TAGS: list[BaseTag | int] = [
    Tag(keyword)
    for keyword in (
        *STUDY_KEYWORDS,
        *SERIES_KEYWORDS,
        *IMAGE_KEYWORDS,
        "RequestAttributesSequence",
        "SpecificCharacterSet",
        "SOPClassUID",
        "SOPInstanceUID",
        "InstanceNumber",
        "NumberOfSeriesRelatedInstances",
        "ImagesInAcquisition",
    )
]
Header: TypeAlias = Mapping[str, Any]


class Incoming:
    """One instance on its way in: its data set is written, then it is ended; `Ingest.keep` makes it last.

    One that is not kept has to be discarded.
    """

    def __init__(self, announced: Announced, objects: ObjectStore, size: int = 0) -> None:
        self._announced, self._objects = announced, objects
        self._arrival: Arrival | None = None
        self._beginning = b""
        self.spool = objects.spool(size)
        head = file_head(announced.SOPClassUID, announced.SOPInstanceUID, announced.TransferSyntaxUID)
        self.spool.write(head)
        self._data_at = len(head)

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes of the data set. Raises StoreError, and nothing is left then."""
        try:
            self.spool.write(data)
            if len(self._beginning) < _BEGINNING:
                self._beginning += data[: _BEGINNING - len(self._beginning)]
        except BaseException:
            self.discard()
            raise

    def end(self, *, ahead: bool = False) -> None:
        """The data set is complete. Raises IngestError where it is refused for good; nothing is left then.

        `ahead`: have it synced by another thread, since further instances come before it is kept.
        """
        try:
            if ahead:
                self._objects.seal(self.spool)
            header = self._read_header()
            _require_identity(self._announced, header)
            self._arrival = _arrival(self._announced, header, self.spool.stored)
        except BaseException:
            self.discard()
            raise

    def _read_header(self) -> Header:
        """The values that the catalog takes, by keyword. Raises NotDicom."""
        syntax = UID(self._announced.TransferSyntaxUID)
        # Almost every header is in memory still; the file is opened for the others.
        if syntax != DeflatedExplicitVRLittleEndian and len(self._beginning) == _BEGINNING:
            beginning = BytesIO(self._beginning)
            with suppress(NotDicom):
                header = _read_header(beginning, syntax)
                if beginning.tell() < _BEGINNING:
                    return header
        with self.spool.path.open("rb") as file:
            file.seek(self._data_at)
            return _read_header(file, syntax)

    @property
    def arrival(self) -> Arrival:
        """What the catalog will know of it, once it has been ended."""
        if self._arrival is None:
            raise RuntimeError("the instance has not been ended")
        return self._arrival

    def discard(self) -> None:
        """Leave nothing of it, unless it was kept."""
        self.spool.discard()


class Ingest:
    """Takes instances in; safe to call from several threads at once."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database, self._objects = database, objects

    def store(self, received: Received) -> Addition:
        """Keep one instance. When this returns, its bytes and its row survive a power failure.

        Raises IngestError where it is refused for good, StoreError where it could not be kept.
        """
        incoming = self.begin(received, len(received.data))
        incoming.write(received.data)
        incoming.end()
        outcome = self.keep([incoming])[0]
        if isinstance(outcome, DuplicateDiffers):
            raise outcome
        return outcome

    def begin(self, announced: Announced, size: int = 0) -> Incoming:
        """An instance whose data set is to come; `size`: how long it is at least, where that is known.

        Raises ClassRefused and SyntaxRefused, and StoreError where there is no space for it.
        """
        if announced.SOPClassUID not in STORAGE_CLASSES:
            raise ClassRefused
        if announced.TransferSyntaxUID not in TRANSFER_SYNTAXES:
            raise SyntaxRefused
        return Incoming(announced, self._objects, size)

    def scratch(self) -> Spool:
        """A place for bytes that are no instance yet, and never are kept as they are. Raises StoreError."""
        return self._objects.spool()

    def keep(self, incoming: Sequence[Incoming]) -> list[Addition | DuplicateDiffers]:
        """Keep instances that came together, in one transaction; one that is refused costs only itself.

        When this returns, the others survive a power failure. Raises StoreError where none could be kept.
        """
        self._objects.keep([each.spool for each in incoming])
        outcomes: dict[int, Addition | DuplicateDiffers] = {}
        with self._database.begin() as tx:
            for numbers in _by_series([each.arrival for each in incoming]):
                arrivals = [incoming[number].arrival for number in numbers]
                outcomes.update(zip(numbers, self._enter(tx, arrivals), strict=True))
        for number, outcome in outcomes.items():
            if isinstance(outcome, DuplicateDiffers):
                self._note_duplicate(incoming[number].arrival)
        log.debug("instances.stored", count=len(incoming))
        return [outcomes[number] for number in range(len(incoming))]

    def _enter(self, tx: Transaction, arrivals: Sequence[Arrival]) -> list[Addition | DuplicateDiffers]:
        outcomes = catalog.add_instances(tx, arrivals)
        StudyInstanceUID = arrivals[0].study["StudyInstanceUID"]
        for PatientID in {arrival.study["PatientID"]: None for arrival in arrivals}:
            if catalog.note_patient_conflict(tx, StudyInstanceUID, PatientID):
                jobs.hold_study(tx, StudyInstanceUID, PATIENT_CONFLICT)
        for arrival, outcome in zip(arrivals, outcomes, strict=True):
            # A start that tidies up may have taken the file for an orphan's until this moment.
            if isinstance(outcome, Addition) and not self._objects.holds(arrival.stored):
                raise StorageFailed("the object is gone")
        return outcomes

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


def _by_series(arrivals: Sequence[Arrival]) -> list[list[int]]:
    """The numbers of the arrivals of each series.

    In one order everywhere: two requests that bring the same series wait, and never for each other.
    """
    series: dict[tuple[str, str, str], list[int]] = {}
    for number, arrival in enumerate(arrivals):
        place = (
            arrival.study["StudyInstanceUID"],
            arrival.series["SeriesInstanceUID"],
            arrival.association.key,
        )
        series.setdefault(place, []).append(number)
    return [series[place] for place in sorted(series)]


def _read_header(source: BinaryIO, syntax: UID) -> Header:
    try:
        ds = read_dataset(
            _inflated(source) if syntax == DeflatedExplicitVRLittleEndian else source,
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=_is_pixel_data,
            specific_tags=_HEADER_TAGS,
        )
        return {element.keyword: element.value for element in ds}
    except (InvalidDicomError, *UNREADABLE) as error:
        raise NotDicom(f"the data set cannot be read: {type(error).__name__}") from error


def _is_pixel_data(tag: BaseTag, _: str | None, __: int) -> bool:
    return tag in (0x7FE00008, 0x7FE00009, 0x7FE00010)


def _inflated(file: BinaryIO) -> BytesIO:
    """The beginning of a deflated data set; the rest is only proved to inflate (PS3.5 A.5)."""
    beginning = BytesIO()
    inflating, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflating.eof:
        data = inflating.unconsumed_tail or file.read(_BLOCK)
        if not data:
            raise EOFError
        block = inflating.decompress(data, _BLOCK)
        inflated += len(block)
        if inflated > INFLATED_LIMIT:
            raise OverflowError
        if beginning.tell() < _HEADER_LIMIT:
            beginning.write(block)
    beginning.seek(0)
    return beginning


def _require_identity(announced: Announced, header: Header) -> None:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        uid = str(header.get(keyword) or "")
        if not uid:
            raise MissingUID(keyword)
        if not is_valid_uid(uid):
            raise InvalidUID(keyword)
    for keyword in ("SOPInstanceUID", "SOPClassUID"):
        if str(header[keyword]) != getattr(announced, keyword):
            raise UIDMismatch(keyword)


def _arrival(announced: Announced, header: Header, stored: StoredObject) -> Arrival:
    return Arrival(
        association=announced.association,
        stored=stored,
        SOPClassUID=announced.SOPClassUID,
        SOPInstanceUID=announced.SOPInstanceUID,
        TransferSyntaxUID=announced.TransferSyntaxUID,
        study={keyword: _text(header, keyword) for keyword in STUDY_KEYWORDS},
        series={
            **{keyword: _text(header, keyword) for keyword in SERIES_KEYWORDS},
            **{keyword: _text(_request(header), keyword) for keyword in REQUEST_KEYWORDS},
        },
        instance={
            "InstanceNumber": _text(header, "InstanceNumber"),
            **{keyword: _count(header, keyword) for keyword in IMAGE_KEYWORDS},
        },
        expected_instances=_count(header, "NumberOfSeriesRelatedInstances"),
        minimum_instances=_count(header, "ImagesInAcquisition"),
    )


def _request(header: Header) -> Header:
    items = header.get("RequestAttributesSequence")
    if not isinstance(items, DicomSequence) or not items:
        return {}
    return {keyword: items[0].get(keyword) for keyword in REQUEST_KEYWORDS}


def _text(header: Header, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).replace("\x00", "")


def _count(header: Header, keyword: str) -> int | None:
    """A whole number that a database takes; None where the header has none or nonsense."""
    try:
        value = int(str(header.get(keyword)))
    except ValueError:
        return None
    return value if 0 < value < 2**31 else None
