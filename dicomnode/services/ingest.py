"""An instance comes in: checked, kept, entered in the catalog; only then may it be acknowledged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from functools import cache
from typing import Any, BinaryIO, TypeAlias

import structlog
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from dicomnode.dimse.presentation import STORAGE_CLASSES, TRANSFER_SYNTAXES
from dicomnode.errors import (
    ClassRefused,
    DiskFailed,
    DuplicateDiffers,
    InstanceTooLarge,
    InvalidUID,
    MissingUID,
    NotDicom,
    StorageFailed,
    SyntaxRefused,
    UIDMismatch,
)
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.imaging.plain_header import NotPlain, PlainHeader
from dicomnode.imaging.windows import check_stored, inflated_beginning
from dicomnode.model.instance import Addition, Announced, Arrival, Received, StoredObject
from dicomnode.model.job import PATIENT_CONFLICT
from dicomnode.model.limits import InstanceLimits
from dicomnode.model.searched import IMAGE_KEYWORDS, REQUEST_KEYWORDS, SERIES_KEYWORDS
from dicomnode.model.uid import is_valid_uid
from dicomnode.services.group_commit import GroupCommit
from dicomnode.services.trail import record_alone
from dicomnode.store import catalog, jobs
from dicomnode.store.database import Database, Transaction
from dicomnode.store.known_series import NotKnown, add_to_known
from dicomnode.store.object_store import Objects
from dicomnode.store.objects import Spool
from dicomnode.store.part10 import file_head

log = structlog.get_logger()

_HEADER_LIMIT = 16_000_000
_BEGINNING = 32_768
_GROUP = 64
"""Requests that are committed together at most."""
_PATIENTS = 200
"""Patients of studies that need not be compared with the catalog again."""

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
_HEADER_KEYWORDS = (
    *STUDY_KEYWORDS,
    "SeriesInstanceUID",
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
_HEADER_TAGS: list[BaseTag | int] = [Tag(keyword) for keyword in _HEADER_KEYWORDS]
_PLAIN = PlainHeader(_HEADER_KEYWORDS)
Header: TypeAlias = Mapping[str, Any]
_Outcomes: TypeAlias = list[Addition | DuplicateDiffers]


class Incoming:
    """One instance on its way in: its data set is written, then it is ended; `Ingest.keep` makes it last.

    One that is not kept has to be discarded.
    """

    def __init__(self, announced: Announced, objects: Objects, limits: InstanceLimits, size: int = 0) -> None:
        self._announced, self._objects, self._limits = announced, objects, limits
        self._arrival: Arrival | None = None
        self._beginning = b""
        self.spool = objects.spool(size)
        head = file_head(announced.SOPClassUID, announced.SOPInstanceUID, announced.TransferSyntaxUID)
        self.spool.write(head)
        self._data_at, self._size = len(head), 0

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes of the data set. Raises InstanceTooLarge and StoreError, and nothing is left then."""
        try:
            self._size += len(data)
            if self._size > self._limits.size:
                raise InstanceTooLarge(self._limits.size)
            self.spool.write(data)
            if len(self._beginning) < _BEGINNING:
                self._beginning += data[: _BEGINNING - len(self._beginning)]
        except BaseException:
            self.discard()
            raise

    def end(self, *, ahead: bool = False) -> None:
        """The data set is complete. Raises IngestError where it is refused for good; nothing is left then.

        `ahead`: further instances come before it is kept.
        """
        try:
            self._objects.seal(self.spool, ahead=ahead)
            header = self._checked_header()
            _require_identity(self._announced, header)
            self._arrival = _arrival(self._announced, header, self.spool.stored)
        except BaseException:
            self.discard()
            raise

    def _checked_header(self) -> Header:
        """The values that the catalog takes, by keyword. Raises NotDicom and InstanceTooLarge."""
        places = check_stored(
            self.spool.path,
            self._data_at,
            self._size,
            self._beginning,
            self._announced.TransferSyntaxUID,
            self._limits,
            _PLAIN.tags,
        )
        # Almost every header is plain, and in memory still.
        if (is_implicit := _is_implicit(self._announced.TransferSyntaxUID)) is not None:
            with suppress(NotPlain):
                return _PLAIN.read(self._beginning, places, is_implicit=is_implicit)
        with self.spool.path.open("rb") as file:
            file.seek(self._data_at)
            return _read_header(file, UID(self._announced.TransferSyntaxUID))

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

    def __init__(self, database: Database, objects: Objects, limits: InstanceLimits | None = None) -> None:
        self._database, self._objects, self._limits = database, objects, limits or InstanceLimits()
        self._committed = GroupCommit(self._commit, _GROUP)
        self._patients: Set[tuple[str, str]] = frozenset()

    def store(self, came: Received | Incoming) -> Addition:
        """Keep one instance, whose data set is complete. When this returns, it survives a power failure.

        Raises IngestError where it is refused for good, StoreError where it could not be kept.
        """
        incoming = came if isinstance(came, Incoming) else self._written(came)
        incoming.end()
        outcome = self.keep([incoming])[0]
        if isinstance(outcome, DuplicateDiffers):
            raise outcome
        return outcome

    def _written(self, received: Received) -> Incoming:
        incoming = self.begin(received, len(received.data))
        incoming.write(received.data)
        return incoming

    def begin(self, announced: Announced, size: int = 0) -> Incoming:
        """An instance whose data set is to come; `size`: how long it is at least, where that is known.

        Raises ClassRefused, SyntaxRefused and InstanceTooLarge; StoreError where there is no space.
        """
        if announced.SOPClassUID not in STORAGE_CLASSES:
            raise ClassRefused
        if announced.TransferSyntaxUID not in TRANSFER_SYNTAXES:
            raise SyntaxRefused
        if size > self._limits.size:
            raise InstanceTooLarge(self._limits.size)
        return Incoming(announced, self._objects, self._limits, size)

    def scratch(self) -> Spool:
        """A place for bytes that are no instance yet, and never are kept as they are. Raises StoreError."""
        return self._objects.spool()

    def keep(self, incoming: Sequence[Incoming]) -> list[Addition | DuplicateDiffers]:
        """Keep instances that came together, in one transaction; one that is refused costs only itself.

        When this returns, the others survive a power failure. Raises StoreError where none could be kept.
        """
        self._objects.keep([each.spool for each in incoming])
        outcome = self._committed(incoming)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _commit(self, group: Sequence[Sequence[Incoming]]) -> list[_Outcomes | Exception]:
        """Enter what several brought at the same time in one transaction; its objects are durable."""
        try:
            together = iter(self._enter_all([each for incoming in group for each in incoming]))
            return [[next(together) for _ in incoming] for incoming in group]
        except DiskFailed:
            raise
        except Exception:
            if len(group) == 1:
                raise
        return [self._alone(incoming) for incoming in group]

    def _alone(self, incoming: Sequence[Incoming]) -> _Outcomes | Exception:
        """Where one of several cannot be entered, the others must not suffer from it."""
        try:
            return self._enter_all(incoming)
        except DiskFailed:
            raise
        except Exception as error:  # noqa: BLE001  it is raised to who brought it
            return error

    def _enter_all(self, incoming: Sequence[Incoming]) -> _Outcomes:
        patients = {
            (each.arrival.study["StudyInstanceUID"], each.arrival.study["PatientID"]) for each in incoming
        }
        if patients <= self._patients and self._enter_known(incoming):
            outcomes: _Outcomes = [Addition.ADDED] * len(incoming)
        else:
            outcomes = self._enter_any(incoming, patients - self._patients)
        # What a study was entered with never changes: once is enough.
        self._patients = patients | (self._patients if len(self._patients) < _PATIENTS else set())
        for each, outcome in zip(incoming, outcomes, strict=True):
            if isinstance(outcome, DuplicateDiffers):
                self._note_duplicate(each.arrival)
        log.debug("instances.stored", count=len(incoming))
        return outcomes

    def _enter_known(self, incoming: Sequence[Incoming]) -> bool:
        """Enter them all, where there is no more to it than that; False where nothing was done."""
        arrivals = [each.arrival for each in incoming]
        with suppress(NotKnown):
            with self._database.begin_bare() as tx:
                for numbers in _by_series(arrivals):
                    add_to_known(tx, [arrivals[number] for number in numbers])
                self._require_held(arrivals)
            return True
        return False

    def _enter_any(self, incoming: Sequence[Incoming], patients: Set[tuple[str, str]]) -> _Outcomes:
        outcomes: dict[int, Addition | DuplicateDiffers] = {}
        with self._database.begin() as tx:
            for numbers in _by_series([each.arrival for each in incoming]):
                arrivals = [incoming[number].arrival for number in numbers]
                outcomes.update(zip(numbers, self._enter(tx, arrivals), strict=True))
            for StudyInstanceUID, PatientID in sorted(patients):
                if catalog.note_patient_conflict(tx, StudyInstanceUID, PatientID):
                    jobs.hold_study(tx, StudyInstanceUID, PATIENT_CONFLICT)
        return [outcomes[number] for number in range(len(incoming))]

    def _enter(self, tx: Transaction, arrivals: Sequence[Arrival]) -> list[Addition | DuplicateDiffers]:
        outcomes = catalog.add_instances(tx, arrivals)
        together = zip(arrivals, outcomes, strict=True)
        self._require_held([arrival for arrival, outcome in together if isinstance(outcome, Addition)])
        return outcomes

    def _require_held(self, arrivals: Sequence[Arrival]) -> None:
        """A start that tidies up may have taken a file for an orphan's until this moment."""
        if not all(self._objects.holds(arrival.stored) for arrival in arrivals):
            raise StorageFailed("the object is gone")

    def _note_duplicate(self, arrival: Arrival) -> None:
        facts = {
            "SOPInstanceUID": arrival.SOPInstanceUID,
            "refused_sha256": arrival.stored.sha256,
            "calling_ae": arrival.association.calling_ae,
            "address": arrival.association.address,
        }
        record_alone(self._database, "duplicate_differs", facts)
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


@cache
def _is_implicit(TransferSyntaxUID: str) -> bool | None:
    """None where the bytes of the file are no elements in Little Endian."""
    syntax = UID(TransferSyntaxUID)
    return syntax.is_implicit_VR if syntax.is_little_endian and not syntax.is_deflated else None


def _read_header(source: BinaryIO, syntax: UID) -> Header:
    try:
        ds = read_dataset(
            inflated_beginning(source, _HEADER_LIMIT) if syntax.is_deflated else source,
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=_is_pixel_data,
            specific_tags=_HEADER_TAGS,
        )
        return {element.keyword: element.value for element in ds}
    except (InvalidDicomError, OSError, *UNREADABLE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # pydicom raises an OSError of its own where a sequence has no end.
        raise NotDicom(f"the data set cannot be read: {type(error).__name__}") from error


def _is_pixel_data(tag: BaseTag, _: str | None, __: int) -> bool:
    return tag in (0x7FE00008, 0x7FE00009, 0x7FE00010)


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
            **{keyword: _text(header, keyword) for keyword in ("SeriesInstanceUID", *SERIES_KEYWORDS)},
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
