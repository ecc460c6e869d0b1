"""Where a result comes from: the job, the pipeline and the node that encoded it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dicomnode.model.result import ResultRole
from dicomnode.model.uid import derive_uid


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the results of one job say of their origin.

    `installation`, `job_key`, `pipeline_digest` and `form` fix the UIDs: the same job encodes to the same
    UIDs again, and no other node to any of them. `form` names what a destination's profile changes; "" is
    nothing.
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

    def __post_init__(self) -> None:
        if self.produced_at.utcoffset() is None:
            raise ValueError("produced_at has no time zone")

    def uid(self, *parts: str) -> str:
        """A UID of this job in this form, a function of `parts`."""
        return derive_uid(self.installation, self.job_key, self.pipeline_digest, self.form, *parts)

    def instance_uid(self, role: ResultRole) -> str:
        """SOPInstanceUID of this job's result of that role."""
        return self.uid("instance", role)

    def series_uid(self, role: ResultRole) -> str:
        """SeriesInstanceUID of this job's result of that role; each result has a series of its own."""
        return self.uid("series", role)

    def tracking_uid(self, segment: str) -> str:
        """Tracking UID of a segment, the same in SEG and SR."""
        return derive_uid(self.installation, self.job_key, "tracking", segment)

    def series_number(self, role: ResultRole) -> int:
        """SeriesNumber of this job's result of that role."""
        return self.series_number_base + tuple(ResultRole).index(role)

    @property
    def device_uid(self) -> str:
        """Names this node as an observer (PS3.16 TID 1004)."""
        return derive_uid(
            self.installation, "device", self.manufacturer, self.model_name, self.device_serial_number
        )
