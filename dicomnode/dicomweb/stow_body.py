"""The body of a STOW request: its parts become instances as they come in (PS3.18 10.5.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

from dicomnode.dicomweb.file_head import FileHead, parse_file_head
from dicomnode.dicomweb.media import DICOM, DICOM_JSON, DICOM_XML, MediaType, parse_media_type
from dicomnode.dicomweb.multipart import Event, MultipartParser, PartBegins
from dicomnode.dicomweb.stow_metadata import BulkData, MetadataInstance, MetadataParts, Scratch
from dicomnode.dicomweb.stow_outcome import Outcome
from dicomnode.errors import (
    BadRequest,
    DicomnodeError,
    IngestError,
    InvalidUID,
    MissingUID,
    NotDicom,
    StorageFull,
    UIDMismatch,
    UnsupportedMediaType,
)
from dicomnode.model.instance import Addition, Announced, Arrival, AssociationFacts
from dicomnode.model.uid import is_valid_uid

MAXIMUM_PARTS = 50_000
BATCH = 1000
"""Instances that are kept in one transaction."""
COSTS_ONE_INSTANCE = (IngestError, StorageFull, UnsupportedMediaType)
"""What is wrong with one instance and leaves the others of the request as they are."""


class Incoming(Protocol):
    """An instance on its way in, as `InstanceStore.begin` gives it."""

    @property
    def arrival(self) -> Arrival:
        """What it is, once it has been ended."""

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes of its data set; nothing is left of it where this raises."""

    def end(self, *, ahead: bool) -> None:
        """Its data set is complete; nothing is left of it where this raises."""

    def discard(self) -> None:
        """Leave nothing of it."""


Kept = TypeVar("Kept", bound=Incoming)


class InstanceStore(Protocol[Kept]):
    """Where instances go: what it says of them is durable."""

    def begin(self, announced: Announced, size: int = 0) -> Kept:
        """An instance whose data set is to come. Raises IngestError and StoreError."""

    def keep(self, incoming: Sequence[Kept]) -> Sequence[Addition | IngestError]:
        """Keep instances that have been ended. Raises StoreError where none could be kept."""

    def scratch(self) -> Scratch:
        """A place for bytes that are no instance yet."""


class StowBody(Generic[Kept]):
    """Fed with a body block by block; has the outcomes when it is finished; one that fails is abandoned."""

    def __init__(
        self,
        store: InstanceStore[Kept],
        association: AssociationFacts,
        kind: MediaType,
        StudyInstanceUID: str | None,
    ) -> None:
        self._store, self._association, self._study = store, association, StudyInstanceUID
        self._outcomes: list[Outcome] = []
        self._ended: list[Kept] = []
        self._part: _Part | None = None
        self._metadata = MetadataParts(store.scratch)
        self._parser: MultipartParser | None = None
        if kind.essence == DICOM:
            self._part = _InstancePart(self)
        else:
            self._root = kind.parameters.get("type", DICOM).lower()
            self._parser = MultipartParser(kind.parameters.get("boundary", ""), MAXIMUM_PARTS)

    def feed(self, block: bytes) -> None:
        """The next bytes. What is raised concerns the whole request: RequestError and StoreError."""
        events: Iterable[Event] = (memoryview(block),) if self._parser is None else self._parser.feed(block)
        for event in events:
            if isinstance(event, PartBegins):
                self._end_part(ahead=True)
                self._part = self._part_for(event.headers)
            elif self._part is not None and isinstance(event, memoryview):
                self._part.write(event)

    def finish(self, rest: bytes) -> list[Outcome]:
        """The body ends with `rest`; returns what became of each instance, when that is durable."""
        self.feed(rest)
        if self._parser is not None:
            self._parser.finish()
        self._end_part(ahead=False)
        for instance in self._metadata.instances():
            self._add(instance)
        self._metadata.discard()
        self._keep()
        if not self._outcomes:
            raise BadRequest("there is no instance in the body")
        return self._outcomes

    def _end_part(self, *, ahead: bool) -> None:
        """The part that came last is complete; `ahead`: others follow it.

        The last one is not synced ahead: there is nothing to do meanwhile, and a turn of threads costs more.
        """
        if self._part is not None:
            self._part.end(ahead=ahead)
            self._part = None

    def abandon(self) -> None:
        """Leave nothing of what was not kept."""
        if self._part is not None:
            self._part.discard()
        for incoming in self._ended:
            incoming.discard()
        self._ended = []
        self._metadata.discard()

    def begin(self, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> Kept:
        """An instance whose data set is to come. Raises IngestError and StorageFull."""
        for keyword, uid in (("SOPClassUID", SOPClassUID), ("SOPInstanceUID", SOPInstanceUID)):
            if not is_valid_uid(uid):
                raise InvalidUID(keyword)
        return self._store.begin(Announced(self._association, SOPClassUID, SOPInstanceUID, TransferSyntaxUID))

    def end(self, incoming: Kept, *, ahead: bool) -> None:
        """Its data set is complete. Raises IngestError."""
        incoming.end(ahead=ahead)
        if self._study not in (None, incoming.arrival.study["StudyInstanceUID"]):
            incoming.discard()
            raise UIDMismatch("StudyInstanceUID")
        self._ended.append(incoming)
        if len(self._ended) >= BATCH:
            self._keep()

    def refuse(self, error: DicomnodeError, SOPClassUID: str = "", SOPInstanceUID: str = "") -> None:
        """An instance is not stored; its UIDs, as far as they are known."""
        named = is_valid_uid(SOPClassUID) and is_valid_uid(SOPInstanceUID)
        names = (SOPClassUID, SOPInstanceUID) if named else ()
        self._outcomes.append(Outcome(error, *names))

    def _keep(self) -> None:
        ended, self._ended = self._ended, []
        for incoming, outcome in zip(ended, self._store.keep(ended) if ended else (), strict=True):
            arrival = incoming.arrival
            self._outcomes.append(
                Outcome(
                    outcome if isinstance(outcome, IngestError) else None,
                    arrival.SOPClassUID,
                    arrival.SOPInstanceUID,
                    arrival.study["StudyInstanceUID"],
                    arrival.series["SeriesInstanceUID"],
                )
            )

    def _part_for(self, headers: Mapping[str, str]) -> _Part:
        kind = parse_media_type(headers.get("content-type", self._root))
        if kind.essence == DICOM:
            return _InstancePart(self)
        if kind.essence in (DICOM_JSON, DICOM_XML):
            self._metadata.add_document(kind.essence)
            return _DocumentPart(self._metadata)
        if self._root != DICOM:
            return _BulkPart(self._metadata.add_bulk(headers.get("content-location", ""), kind))
        self.refuse(UnsupportedMediaType(f"a part of {kind.essence}"))
        return _Part()

    def _add(self, instance: MetadataInstance) -> None:
        names = str(instance.ds.get("SOPClassUID") or ""), str(instance.ds.get("SOPInstanceUID") or "")
        try:
            if not all(names):
                raise MissingUID("SOPClassUID" if not names[0] else "SOPInstanceUID")
            incoming = self.begin(*names, instance.transfer_syntax)
            try:
                instance.write_to(incoming.write)
            except BaseException:
                incoming.discard()
                raise
            self.end(incoming, ahead=True)
        except COSTS_ONE_INSTANCE as error:
            self.refuse(error, *names)


class _Part:
    """A part that is passed over."""

    def write(self, data: memoryview) -> None:
        """Its next bytes."""

    def end(self, *, ahead: bool) -> None:
        """It is complete; `ahead`: others follow it."""

    def discard(self) -> None:
        """It will never be complete."""


class _InstancePart(_Part, Generic[Kept]):
    """A DICOM file (PS3.10): its head is read, its data set becomes an instance."""

    def __init__(self, body: StowBody[Kept]) -> None:
        self._body = body
        self._beginning = b""
        self._head: FileHead | None = None
        self._incoming: Kept | None = None
        self._refused = False

    def write(self, data: memoryview) -> None:
        self._attempt(partial(self._write, data))

    def end(self, *, ahead: bool) -> None:
        self._attempt(partial(self._end, ahead=ahead))

    def discard(self) -> None:
        if self._incoming is not None:
            self._incoming.discard()

    def _attempt(self, step: Callable[[], None]) -> None:
        if self._refused:
            return
        try:
            step()
        except COSTS_ONE_INSTANCE as error:
            self._refused = True
            names = (self._head.SOPClassUID, self._head.SOPInstanceUID) if self._head else ()
            self._body.refuse(error, *names)

    def _write(self, data: memoryview) -> None:
        if self._incoming is not None:
            self._incoming.write(data)
            return
        source = memoryview(self._beginning + data) if self._beginning else data
        head = self._head = parse_file_head(source)
        if head is None:
            self._beginning = bytes(source)
            return
        self._beginning = b""
        self._incoming = self._body.begin(head.SOPClassUID, head.SOPInstanceUID, head.TransferSyntaxUID)
        self._incoming.write(source[head.length :])

    def _end(self, *, ahead: bool) -> None:
        if self._incoming is None:
            raise NotDicom("there is no data set")
        self._body.end(self._incoming, ahead=ahead)


class _DocumentPart(_Part):
    """A document of metadata."""

    def __init__(self, metadata: MetadataParts) -> None:
        self._metadata = metadata

    def write(self, data: memoryview) -> None:
        self._metadata.write_document(data)


class _BulkPart(_Part):
    """Bulk data that the metadata name."""

    def __init__(self, bulk: BulkData) -> None:
        self._bulk = bulk

    def write(self, data: memoryview) -> None:
        self._bulk.write(data)
