"""The content of encoded selections, withdrawals and notices against what they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.manifest import Manifest
from dicomnode.model.result import ResultReference
from dicomnode.results.key_images import key_planes

Listed = set[tuple[str, str, str]]
"""StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID of instances."""
_OF_INTEREST = "113000"
_REJECTED = "113037"
_NONE_SUCCEEDED = "111245"


def compare_key_images(
    ds: Dataset, findings: Findings, headers: Sequence[Dataset], manifest: Manifest
) -> None:
    """Raises GateFailed unless the KOS selects the planes with most of each segment, and of each mark."""
    try:
        _require_title(ds, _OF_INTEREST, "KOS")
        planes = key_planes(findings, manifest)
        sources = [findings.geometry.frames[plane] for plane in planes]
        expected = [(source.SOPInstanceUID, source.frame) for source in sources]
        if sorted(_selected(ds), key=str) != sorted(expected, key=str):
            raise GateFailed("the KOS selects other images than those that matter")
        require_evidence(ds, named(headers[plane] for plane in planes), "KOS")
    except UNREADABLE as error:
        raise GateFailed(f"the KOS cannot be read back ({type(error).__name__})") from error


def compare_withdrawal(ds: Dataset, earlier: Sequence[ResultReference]) -> None:
    """Raises GateFailed unless the KOS rejects the results of `earlier`, all of them and no other."""
    try:
        _require_title(ds, _REJECTED, "withdrawal")
        if sorted(uid for uid, _ in _selected(ds)) != sorted(each.SOPInstanceUID for each in earlier):
            raise GateFailed("the withdrawal rejects other results than it was asked to")
        expected = {(each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPInstanceUID) for each in earlier}
        require_evidence(ds, expected, "withdrawal")
    except UNREADABLE as error:
        raise GateFailed(f"the withdrawal cannot be read back ({type(error).__name__})") from error


def compare_notice(ds: Dataset, lines: Sequence[str]) -> None:
    """Raises GateFailed unless the notice says `lines`, and that no algorithm succeeded."""
    try:
        said = [
            text_of(item, "TextValue")
            for item in ds.ContentSequence
            if item.ValueType == "TEXT" and item.RelationshipType == "CONTAINS"
        ]
        if said != list(lines):
            raise GateFailed("the notice says something else than why nothing was run")
        coded = [
            text_of(item.ConceptCodeSequence[0], "CodeValue")
            for item in ds.ContentSequence
            if item.ValueType == "CODE"
        ]
        if _NONE_SUCCEEDED not in coded:
            raise GateFailed("the notice does not say that no algorithm succeeded")
    except UNREADABLE as error:
        raise GateFailed(f"the notice cannot be read back ({type(error).__name__})") from error


def named(instances: Iterable[Dataset]) -> Listed:
    """The instances that data sets are, as evidence lists them."""
    return {
        (
            text_of(each, "StudyInstanceUID"),
            text_of(each, "SeriesInstanceUID"),
            text_of(each, "SOPInstanceUID"),
        )
        for each in instances
    }


def listed(studies: Sequence[Dataset]) -> list[tuple[str, str, str]]:
    """The instances of a sequence of studies (PS3.3 Table C.17-3)."""
    return [
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), str(item.ReferencedSOPInstanceUID))
        for study in studies
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def require_evidence(ds: Dataset, expected: Listed, what: str) -> None:
    """Raises GateFailed unless `ds` lists each of `expected` as evidence, once, and nothing else."""
    found = listed(ds.CurrentRequestedProcedureEvidenceSequence)
    if len(set(found)) != len(found) or set(found) != expected:
        raise GateFailed(
            f"the {what} lists {len(found)} instances as evidence, of {len(expected)} that it is based on"
        )


def _require_title(ds: Dataset, code: str, what: str) -> None:
    title = ds.ConceptNameCodeSequence[0]
    if (str(title.CodeValue), str(title.CodingSchemeDesignator)) != (code, "DCM"):
        raise GateFailed(f"the {what} has another title than it must")


def _selected(ds: Dataset) -> Iterator[tuple[str, int | None]]:
    for item in ds.ContentSequence:
        if item.ValueType in ("IMAGE", "COMPOSITE"):
            reference = item.ReferencedSOPSequence[0]
            frame = reference.get("ReferencedFrameNumber")
            yield str(reference.ReferencedSOPInstanceUID), None if frame is None else int(frame)
