"""What a work item that somebody creates asks for: read, and held against what this node does.

The attributes are those of PS3.4 table CC.2.5-3, column N-CREATE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pydicom.dataset import Dataset
from pydicom.valuerep import DT

from dicomnode.config import Config
from dicomnode.dicomweb.dicom_json import to_json
from dicomnode.errors import NotFound, WorkItemIncomplete, WorkItemNotScheduled, WorkItemRefused
from dicomnode.imaging.elements import text_of
from dicomnode.model.uid import is_valid_uid
from dicomnode.model.workitem import (
    CODE_SCHEME,
    PRIORITY_OF,
    STEP_PRIORITY,
    Input,
    NewWorkItem,
    Readiness,
    StepState,
)
from dicomnode.pipeline.registry import Registry
from dicomnode.services.workitem_items import station, written

MAXIMUM_INPUTS = 64
_OWN = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "TransactionUID", "ProcedureStepState"),
    *("ScheduledProcedureStepPriority", "ScheduledProcedureStepModificationDateTime", "InputReadinessState"),
    *("ProcedureStepProgressInformationSequence", "UnifiedProcedureStepPerformedProcedureSequence"),
)
"""What the node tells of a work item, whatever it was created with."""
_REQUIRED = (
    *("ScheduledProcedureStepPriority", "ProcedureStepLabel", "ScheduledProcedureStepStartDateTime"),
    *("ScheduledWorkitemCodeSequence", "InputReadinessState", "InputInformationSequence"),
)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be inserted, and whether it is other than what was asked for."""

    new: NewWorkItem
    modified: bool


class OrderReader:
    """Reads work items in the light of the installed pipelines and the configured destinations."""

    def __init__(self, registry: Registry, config: Config) -> None:
        self._registry, self._config = registry, config

    def read(self, SOPInstanceUID: str, ds: Dataset) -> Order:
        """Raises WorkItemRefused, which names the attribute that cannot be taken."""
        _check_is_new(ds)
        for keyword in _REQUIRED:
            if not ds.get(keyword):
                raise WorkItemIncomplete(keyword)
        priority = read_priority(ds)
        label = text_of(ds, "WorklistLabel")
        inputs = _inputs(ds)
        start = read_start(ds)
        kept = Dataset({element.tag: element for element in ds if element.keyword not in _OWN})
        kept.WorklistLabel = label or self._config.node.ae_title
        if not kept.get("ScheduledStationNameCodeSequence"):
            kept.ScheduledStationNameCodeSequence = [station(self._config.node.ae_title)]
        new = NewWorkItem(
            SOPInstanceUID=SOPInstanceUID,
            pipeline=self._pipeline(ds),
            priority=priority,
            readiness=read_readiness(ds),
            start=start,
            send_to=self._destinations(ds),
            inputs=inputs,
            attributes=to_json(kept),
            keys=keys_of(kept, start),
        )
        coerced = not label or priority != ds.ScheduledProcedureStepPriority or any(map(ds.get, _OWN[-2:]))
        return Order(new, coerced)

    def _pipeline(self, ds: Dataset) -> str:
        """The pipeline that the code names, or else a processing parameter (PS3.3 C.30.2)."""
        named = [*_codes(ds, "ScheduledWorkitemCodeSequence"), *self._parameters(ds)]
        if not named:
            raise WorkItemRefused(
                "ScheduledWorkitemCodeSequence",
                f"names no pipeline by a code of the scheme {CODE_SCHEME}; this node does no other work",
            )
        if len(set(named)) > 1:
            raise WorkItemRefused("ScheduledProcessingParametersSequence", "names another pipeline")
        try:
            return self._registry.get(named[0]).manifest.pipeline.name
        except NotFound:
            installed = ", ".join(self._registry.names())
            raise WorkItemRefused(
                "ScheduledWorkitemCodeSequence", f"names no installed pipeline; there are {installed}"
            ) from None

    def _parameters(self, ds: Dataset) -> Iterator[str]:
        """The pipelines that parameters name; a parameter that is not understood is not ignored."""
        for item in ds.get("ScheduledProcessingParametersSequence") or []:
            concepts = list(_codes(item, "ConceptNameCodeSequence"))
            if concepts != ["pipeline"] or not item.get("TextValue"):
                raise WorkItemRefused(
                    "ScheduledProcessingParametersSequence",
                    f"has another parameter than pipeline ({CODE_SCHEME}), a text",
                )
            yield str(item.TextValue)

    def _destinations(self, ds: Dataset) -> tuple[str, ...] | None:
        items = ds.get("OutputDestinationSequence") or []
        found = dict.fromkeys(name for item in items for name in self._named_by(item))
        return tuple(found) if items else None

    def _named_by(self, item: Dataset) -> Iterator[str]:
        """Output is sent only to where the configuration says, never to an address that a request names."""
        titles = [str(each.get("DestinationAE", "")) for each in item.get("DICOMStorageSequence") or []]
        urls = [str(each.get("StorageURL", "")) for each in item.get("STOWRSStorageSequence") or []]
        if not titles and not urls:
            raise WorkItemRefused("OutputDestinationSequence", "has neither DICOM nor STOW-RS storage")
        known = self._config.destination
        for title in titles:
            yield self._one([each.name for each in known if each.dimse and each.dimse.ae_title == title])
        for url in urls:
            base = url.rstrip("/").removesuffix("/studies")
            yield self._one([each.name for each in known if each.web and each.web.url == base])

    @staticmethod
    def _one(names: Sequence[str]) -> str:
        if not names:
            raise WorkItemRefused("OutputDestinationSequence", "names no destination that is configured here")
        return names[0]


def read_priority(ds: Dataset) -> str:
    """HIGH, MEDIUM or LOW; STAT is HIGH. Raises WorkItemRefused."""
    try:
        return STEP_PRIORITY[PRIORITY_OF[text_of(ds, "ScheduledProcedureStepPriority")]]
    except KeyError:
        raise WorkItemRefused("ScheduledProcedureStepPriority", "is not HIGH, MEDIUM or LOW") from None


def read_readiness(ds: Dataset) -> Readiness:
    """Raises WorkItemRefused."""
    try:
        return Readiness(text_of(ds, "InputReadinessState"))
    except ValueError:
        raise WorkItemRefused("InputReadinessState", "is not READY, UNAVAILABLE or INCOMPLETE") from None


def read_start(ds: Dataset) -> datetime:
    """When the work may begin; in the data set's time zone, or else this node's. Raises WorkItemRefused."""
    keyword = "ScheduledProcedureStepStartDateTime"
    try:
        moment = datetime.fromisoformat(DT(text_of(ds, keyword)).isoformat())
        zone = _zone(text_of(ds, "TimezoneOffsetFromUTC"))
    except (ValueError, AttributeError):
        raise WorkItemRefused(keyword, "is no date and time") from None
    if moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()


def _zone(text: str) -> timezone | None:
    if not text:
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:5])
    return timezone(timedelta(minutes=minutes if text[0] == "+" else -minutes))


def keys_of(ds: Dataset, start: datetime) -> dict[str, str]:
    """What the work item is searched for by."""
    requests = ds.get("ReferencedRequestSequence") or [Dataset()]
    return {
        "ScheduledProcedureStepStartDateTime": written(start),
        "WorklistLabel": text_of(ds, "WorklistLabel"),
        "ProcedureStepLabel": text_of(ds, "ProcedureStepLabel"),
        "PatientID": text_of(ds, "PatientID"),
        "PatientName": str(ds.get("PatientName") or ""),
        "AccessionNumber": text_of(requests[0], "AccessionNumber") or text_of(ds, "AccessionNumber"),
    }


def _check_is_new(ds: Dataset) -> None:
    if text_of(ds, "ProcedureStepState") != StepState.SCHEDULED:
        raise WorkItemNotScheduled
    if text_of(ds, "TransactionUID"):
        raise WorkItemRefused("TransactionUID", "is not empty")


def _inputs(ds: Dataset) -> tuple[Input, ...]:
    found: dict[Input, None] = {}
    for item in ds.InputInformationSequence:
        uids = text_of(item, "StudyInstanceUID"), text_of(item, "SeriesInstanceUID")
        if not all(map(is_valid_uid, uids)):
            raise WorkItemRefused("InputInformationSequence", "has an item without the UIDs of a series")
        found[Input(*uids)] = None
    if len(found) > MAXIMUM_INPUTS:
        raise WorkItemRefused("InputInformationSequence", f"has more than {MAXIMUM_INPUTS} series")
    return tuple(found)


def _codes(ds: Dataset, keyword: str) -> Iterator[str]:
    for code in ds.get(keyword) or []:
        if text_of(code, "CodingSchemeDesignator") == CODE_SCHEME:
            yield text_of(code, "CodeValue") or text_of(code, "LongCodeValue")
