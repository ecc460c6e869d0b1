"""The priors that a job is given: looked at once more before they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.imaging.consistency import require_one_series
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.headers import read_headers
from dicomnode.imaging.inputs import input_geometry
from dicomnode.imaging.patient import patient_of
from dicomnode.imaging.stacks import Choose
from dicomnode.model.manifest import Manifest, Prior
from dicomnode.model.prior import PRIOR_MISSING
from dicomnode.pipeline.runner import PriorInput
from dicomnode.results.references import Reference, source_reference

OTHER_PATIENT = "PRIOR_OF_OTHER_PATIENT"
"""Why a prior is not used whose own headers do not name the patient of the job's series."""


@dataclass(frozen=True, slots=True)
class GivenPriors:
    """The files of each prior series by its name, the latest first, and what is known of each search."""

    series: Sequence[tuple[str, Sequence[Path]]]
    notes: Mapping[str, str]


NO_PRIORS = GivenPriors((), {})


@dataclass(frozen=True, slots=True)
class UsedPriors:
    """What the pipeline is given, a sentence about each prior for the report, and the instances used."""

    inputs: tuple[PriorInput, ...]
    notes: tuple[str, ...]
    references: tuple[Reference, ...]


def use_priors(manifest: Manifest, given: GivenPriors, header: Dataset, choose: Choose | None) -> UsedPriors:
    """The priors that suit: of the same patient as `header`, and readable as what the pipeline takes.

    Raises Refused where a required one is missing, or none of those that were found suits.
    """
    inputs: list[PriorInput] = []
    notes, references = list[str](), list[Reference]()
    for prior in manifest.prior:
        used, why = 0, given.notes.get(prior.name) or "none was sought"
        code = PRIOR_MISSING
        for paths in (paths for name, paths in given.series if name == prior.name):
            try:
                headers, stack = _checked(paths, manifest, header, choose)
            except Refused as refused:
                code, why = refused.code, refused.reason
                notes.append(f"Prior {prior.name}: a series is not used: {refused.reason}.")
                continue
            inputs.append(PriorInput(prior.keys[used], tuple(paths), stack))
            notes.append(_told(prior, headers[0]))
            references += [source_reference(each) for each in headers]
            used += 1
        if not used and prior.required:
            raise Refused(code, f"prior {prior.name}: {why}"[:300])
        if not used:
            notes.append(f"Prior {prior.name}: not used: {why}.")
    return UsedPriors(tuple(inputs), tuple(notes), tuple(references))


def _checked(
    paths: Sequence[Path], manifest: Manifest, header: Dataset, choose: Choose | None
) -> tuple[list[Dataset], int]:
    headers = read_headers(paths)
    require_one_series(headers)
    if not patient_of(headers[0]).is_same(patient_of(header)):
        raise Refused(OTHER_PATIENT, "it is not surely of the same patient")
    geometry, _ = input_geometry(headers, manifest.pipeline.input, choose)
    return headers, geometry.stack


def _told(prior: Prior, header: Dataset) -> str:
    said = (text_of(header, keyword) for keyword in ("Modality", "StudyDate", "SeriesInstanceUID"))
    modality, date, series = said
    return f"Prior {prior.name}: {modality} of {date or 'an unknown date'}, series {series}."
