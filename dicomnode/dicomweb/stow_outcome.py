"""What became of the instances of a STOW request: the status and data set that say so (PS3.18 10.5.3, I)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dicomnode.dicomweb.dicom_json import JSONDataset
from dicomnode.dicomweb.status import failure_reason
from dicomnode.errors import DicomnodeError, NotDicom, StoreError, UnsupportedMediaType

FAILED_SOP, REFERENCED_SOP, OTHER_FAILURES = "00081198", "00081199", "0008119A"
RETRIEVE_URL, FAILURE_REASON = "00081190", "00081197"
REFERENCED_CLASS, REFERENCED_INSTANCE = "00081150", "00081155"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One instance: stored where there is no error. Its UIDs are empty as far as they could not be read."""

    error: DicomnodeError | None
    SOPClassUID: str = ""
    SOPInstanceUID: str = ""
    StudyInstanceUID: str = ""
    SeriesInstanceUID: str = ""


def stow_status(outcomes: Sequence[Outcome]) -> int:
    """200: all were stored; 202: some; else why none was (PS3.18 Table 10.5.3-1)."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(errors) < len(outcomes):
        return 202 if errors else 200
    if any(isinstance(error, StoreError) for error in errors):
        return 503
    if all(isinstance(error, UnsupportedMediaType) for error in errors):
        return 415
    return 400 if all(isinstance(error, NotDicom) for error in errors) else 409


def stow_dataset(outcomes: Sequence[Outcome], base_url: str, StudyInstanceUID: str | None) -> JSONDataset:
    """The Store Instances Response (PS3.18 Table I.2-1). `base_url`: what "/studies" follows."""
    stored = [outcome for outcome in outcomes if outcome.error is None]
    known = [outcome for outcome in outcomes if outcome.error is not None and outcome.SOPInstanceUID]
    unknown = [outcome for outcome in outcomes if outcome.error is not None and not outcome.SOPInstanceUID]
    studies = {StudyInstanceUID} if StudyInstanceUID else {each.StudyInstanceUID for each in stored}
    dataset: JSONDataset = {}
    if stored and len(studies) == 1:
        dataset[RETRIEVE_URL] = _value("UR", f"{base_url}/studies/{studies.pop()}")
    if known:
        dataset[FAILED_SOP] = _value("SQ", *({**_reference(each), **_reason(each)} for each in known))
    if stored:
        dataset[REFERENCED_SOP] = _value(
            "SQ", *({**_reference(e), **_retrieval(e, base_url)} for e in stored)
        )
    if unknown:
        dataset[OTHER_FAILURES] = _value("SQ", *map(_reason, unknown))
    return dict(sorted(dataset.items()))


def _reference(outcome: Outcome) -> JSONDataset:
    return {
        REFERENCED_CLASS: _value("UI", outcome.SOPClassUID),
        REFERENCED_INSTANCE: _value("UI", outcome.SOPInstanceUID),
    }


def _reason(outcome: Outcome) -> JSONDataset:
    return {FAILURE_REASON: _value("US", failure_reason(outcome.error or DicomnodeError()))}


def _retrieval(outcome: Outcome, base_url: str) -> JSONDataset:
    place = (
        f"{outcome.StudyInstanceUID}/series/{outcome.SeriesInstanceUID}/instances/{outcome.SOPInstanceUID}"
    )
    return {RETRIEVE_URL: _value("UR", f"{base_url}/studies/{place}")}


def _value(vr: str, *values: object) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}
