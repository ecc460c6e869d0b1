"""Where a result comes from: the job, the pipeline and the node that encoded it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydicom.dataset import Dataset

from dicomnode.imaging.elements import text_of
from dicomnode.model.manifest import Manifest, Segment
from dicomnode.model.profile import Profile
from dicomnode.model.result import ResultRole
from dicomnode.model.uid import derive_uid
from dicomnode.results.references import Reference


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the results of one job say of their origin.

    `installation`, `job_key`, `pipeline_digest` and `form` fix the UIDs: the same job encodes to the same
    UIDs again, and no other node to any of them. `form` names what a destination's profile changes; "" is
    nothing. `patient` stands for the patient and the pipeline, and fixes the Tracking UIDs of what is the
    same thing in all of a patient's studies; "" where nobody knows the patient. `notes` are sentences for the
    report, `priors` the instances of other studies that were used beside the source.
    `produced_at` is time-zone-aware. The results' SeriesNumbers count up from `series_number_base`.
    """

    installation: str
    job_key: str
    pipeline_digest: str
    manufacturer: str
    model_name: str
    software_version: str
    device_serial_number: str
    research_only: bool
    series_number_base: int
    produced_at: datetime
    station_name: str = ""
    form: str = ""
    patient: str = ""
    notes: tuple[str, ...] = ()
    priors: tuple[Reference, ...] = ()

    def __post_init__(self) -> None:
        if self.produced_at.utcoffset() is None:
            raise ValueError("produced_at has no time zone")

    def uid(self, *parts: str) -> str:
        """A UID of this job in this form, a function of `parts`."""
        return derive_uid(self.installation, self.job_key, self.pipeline_digest, self.form, *parts)

    def instance_uid(self, role: ResultRole) -> str:
        """SOPInstanceUID of this job's result of that role; each result has a series of its own."""
        return self.uid("instance", role)

    def in_form(self, profile: Profile) -> Provenance:
        """The same origin of results in the form of `profile`."""
        return replace(self, form=form_of(profile))

    def told_apart(self, *parts: str) -> Provenance:
        """The same origin of results that say something else where `parts` are others."""
        return replace(self, form=_digest([self.form, *parts]))

    def beside(self, notes: Sequence[str], priors: Sequence[Reference]) -> Provenance:
        """The same origin of results for which priors were sought."""
        return replace(self, notes=tuple(notes), priors=tuple(priors))

    def of_patient(self, header: Dataset, manifest: Manifest) -> Provenance:
        """The same origin of results of the patient of `header`."""
        issuer, patient = text_of(header, "IssuerOfPatientID"), text_of(header, "PatientID")
        known = (
            derive_uid(self.installation, "patient", issuer, patient, manifest.pipeline.name)
            if patient
            else ""
        )
        return replace(self, patient=known)

    def tracking_uid(self, segment: Segment) -> str:
        """Tracking UID of a segment, the same in each of a job's results, whatever their form."""
        if segment.same_finding == "patient" and self.patient:
            return derive_uid(self.patient, "tracking", segment.name)
        return self.finding_uid(segment.name)

    def finding_uid(self, *parts: str) -> str:
        """Tracking UID of something else that the job found, a function of `parts`."""
        return derive_uid(self.installation, self.job_key, "tracking", *parts)

    def series_number(self, role: ResultRole) -> int:
        """SeriesNumber of this job's result of that role."""
        return self.series_number_base + tuple(ResultRole).index(role)

    @property
    def device_uid(self) -> str:
        """Names this node as an observer (PS3.16 TID 1004)."""
        return derive_uid(
            self.installation, "device", self.manufacturer, self.model_name, self.device_serial_number
        )


def form_of(profile: Profile) -> str:
    """Equal for equal profiles, "" for the one that changes nothing."""
    if profile == Profile():
        return ""
    told = {**profile.model_dump(mode="json"), "takes": sorted(profile.takes)}
    return _digest(told)


def _digest(told: object) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
