"""How a result names other instances: one by one, and as evidence (PS3.3 10.8, C.17.2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicomnode.imaging.elements import text_of
from dicomnode.imaging.geometry import SourceFrame
from dicomnode.model.result import EncodedResult, ResultReference
from dicomnode.results import explicit


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance, or one frame of it, counted from 1."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPClassUID: str
    SOPInstanceUID: str
    frame: int | None = None

    def item(self) -> Dataset:
        """An item of a Referenced SOP or Image Sequence (PS3.3 10.3, 10.8)."""
        ds = Dataset()
        ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = self.SOPClassUID, self.SOPInstanceUID
        if self.frame is not None:
            ds.ReferencedFrameNumber = self.frame
        return ds

    def encoded(self) -> bytes:
        """The same item, encoded."""
        return explicit.item(encoded_names(self.SOPClassUID, self.SOPInstanceUID, self.frame))


def encoded_names(SOPClassUID: str, SOPInstanceUID: str, frame: int | None = None) -> bytes:
    """The elements that name an instance, or a frame of it, in an item that may have more (PS3.3 10.3)."""
    names = explicit.text(0x0008, 0x1150, "UI", SOPClassUID)
    names += explicit.text(0x0008, 0x1155, "UI", SOPInstanceUID)
    if frame is not None:
        names += explicit.text(0x0008, 0x1160, "IS", str(frame))
    return names


def reference_to(result: EncodedResult | ResultReference) -> Reference:
    """One of our own results."""
    return Reference(
        result.StudyInstanceUID, result.SeriesInstanceUID, result.SOPClassUID, result.SOPInstanceUID
    )


def source_reference(header: Dataset, source: SourceFrame | None = None) -> Reference:
    """A plane of the source: the instance of `header`, and the frame where it is one of several."""
    study, series, kind, instance = (
        text_of(header, keyword)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    )
    return Reference(study, series, kind, instance, source.frame if source else None)


def source_references(headers: Sequence[Dataset], frames: Sequence[SourceFrame]) -> tuple[Reference, ...]:
    """One for each plane of a grid, in slice order."""
    return tuple(source_reference(header, source) for header, source in zip(headers, frames, strict=True))


def each_once(references: Iterable[Reference]) -> list[Reference]:
    """Each instance once and whole, whatever of its frames is referred to; in their order."""
    whole = {
        each.SOPInstanceUID: Reference(
            each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPClassUID, each.SOPInstanceUID
        )
        for each in references
    }
    return list(whole.values())


def merged(references: Iterable[Reference]) -> list[Dataset]:
    """Items of a Referenced Image Sequence: an instance once, with all of its frames that are referred to."""
    frames: dict[str, list[int]] = {}
    every = list(references)
    for each in every:
        numbers = frames.setdefault(each.SOPInstanceUID, [])
        if each.frame is not None and each.frame not in numbers:
            numbers.append(each.frame)
    items = []
    for each in each_once(every):
        item = each.item()
        if numbers := sorted(frames[each.SOPInstanceUID]):
            item.ReferencedFrameNumber = numbers if len(numbers) > 1 else numbers[0]
        items.append(item)
    return items


def evidence(references: Iterable[Reference]) -> list[Dataset]:
    """Each instance once, by study and series (PS3.3 Table C.17-3)."""
    studies: dict[str, dict[str, list[Reference]]] = {}
    for each in each_once(references):
        studies.setdefault(each.StudyInstanceUID, {}).setdefault(each.SeriesInstanceUID, []).append(each)
    items = []
    for study_uid, by_series in studies.items():
        study = Dataset()
        study.StudyInstanceUID = study_uid
        study.ReferencedSeriesSequence = [_series(uid, instances) for uid, instances in by_series.items()]
        items.append(study)
    return items


def _series(uid: str, instances: Sequence[Reference]) -> Dataset:
    ds = Dataset()
    ds.SeriesInstanceUID = uid
    explicit.put_items(ds, "ReferencedSOPSequence", b"".join(instance.encoded() for instance in instances))
    return ds
