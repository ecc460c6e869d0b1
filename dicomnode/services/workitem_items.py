"""Values and items that the data set of a work item is made of: codes, references, moments."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from pydicom.dataset import Dataset

from dicomnode.imaging.elements import text_of
from dicomnode.model.workitem import CODE_SCHEME, Attributes, Input


def written(moment: datetime) -> str:
    """A moment as DICOM writes it, in UTC (PS3.5 6.2, DT)."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")


def named_instances(attributes: Attributes, given: Input) -> set[str]:
    """The SOP Instance UIDs that a work item names of one of its inputs; none where it names the series."""
    ds = Dataset.from_json({tag: attributes[tag] for tag in ("00404021",) if tag in attributes})
    return {
        text_of(each, "ReferencedSOPInstanceUID")
        for item in ds.get("InputInformationSequence") or []
        if (text_of(item, "StudyInstanceUID"), text_of(item, "SeriesInstanceUID"))
        == (given.StudyInstanceUID, given.SeriesInstanceUID)
        for each in item.get("ReferencedSOPSequence") or []
    }


def references(study: str, series: str, instances: Iterable[tuple[str, str]]) -> Dataset:
    """The instances of a series by their UIDs (PS3.3 table 10-3b)."""
    ds = Dataset()
    ds.TypeOfInstances = "DICOM"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.ReferencedSOPSequence = []
    for class_uid, instance_uid in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = class_uid, instance_uid
        ds.ReferencedSOPSequence.append(item)
    return ds


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A Code Sequence item; a value of more than 16 characters is a Long Code Value (PS3.3 8.1)."""
    ds = Dataset()
    if len(value) <= 16:
        ds.CodeValue = value
    else:
        ds.LongCodeValue = value
    ds.CodingSchemeDesignator, ds.CodeMeaning = scheme, meaning[:64]
    return ds


def pipeline_code(name: str, title: str = "") -> Dataset:
    """The Workitem Code that orders a pipeline."""
    return code(name, CODE_SCHEME, title or name)


def station(ae_title: str) -> Dataset:
    """The code of this node as a station: its AE title."""
    return code(ae_title, CODE_SCHEME, ae_title)


def parameter(name: str, text: str) -> Dataset:
    """A processing parameter that is a text (PS3.3 table 10-2)."""
    ds = Dataset()
    ds.ValueType = "TEXT"
    ds.ConceptNameCodeSequence = [code(name, CODE_SCHEME, f"pipeline {name}" if name != "pipeline" else name)]
    ds.TextValue = text
    return ds
