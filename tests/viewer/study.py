"""Studies whose segments are at a known place, and what the node makes of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import Geometry, series_geometry
from dicomnode.model.manifest import Manifest, Segment
from dicomnode.model.profile import Profile
from dicomnode.model.result import OutgoingInstance, ResultRole
from dicomnode.results.encode import encode_results
from dicomnode.results.provenance import Provenance
from tests.imaging.builders import ORIENTATIONS, mr_headers, write_series

COLORS = ((230, 60, 40), (40, 200, 90))
"""Of the first and the second segment: far from each other, and from any grey."""
SHAPE = (8, 96, 80)
_SHOWN = (ResultRole.SEG, ResultRole.SR)


@dataclass(frozen=True, slots=True)
class Study:
    """`labels` are the manifest's, on the grid of `geometry`; `slices` names the instance of each slice."""

    StudyInstanceUID: str
    slices: tuple[str, ...]
    geometry: Geometry
    labels: NDArray[np.uint8]
    segments: tuple[Segment, ...]
    instances: tuple[OutgoingInstance, ...]

    def volume_ml(self, segment: Segment) -> float:
        return float((self.labels == segment.label).sum()) * self.geometry.voxel_ml


def make_study(
    folder: Path,
    manifest: Manifest,
    provenance: Provenance,
    orientation: str,
    spacing: tuple[float, float, float],
    profile: Profile,
) -> Study:
    """A series, with the SEG and the SR on it in the form of a profile."""
    folder.mkdir()
    manifest, provenance = _colored(manifest), dataclasses.replace(provenance, job_key=folder.name)
    headers = mr_headers(ORIENTATIONS[orientation], SHAPE, spacing)
    for ds in headers:
        ds.WindowCenter, ds.WindowWidth = "500", "1000"
        ds.PatientID = folder.name
    geometry, ordered = series_geometry(headers)
    labels = _labels(manifest)
    paths = write_series(ordered, np.where(labels, 450, 300).astype(np.uint16), folder)
    findings = Findings(labels, geometry)
    for each in encode_results(findings, ordered, manifest, provenance, profile):
        if each.role in _SHOWN:
            paths.append(folder / f"{each.role}.dcm")
            paths[-1].write_bytes(each.data)
    return Study(
        StudyInstanceUID=str(ordered[0].StudyInstanceUID),
        slices=tuple(str(ds.SOPInstanceUID) for ds in ordered),
        geometry=geometry,
        labels=labels,
        segments=manifest.segment,
        instances=tuple(outgoing(path) for path in paths),
    )


def outgoing(path: Path) -> OutgoingInstance:
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    return OutgoingInstance(ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID, str(path))


def largest_slice(labels: NDArray[np.uint8], label: int) -> int:
    """The index of the slice on which the segment has most voxels."""
    return int((labels == label).sum(axis=(1, 2)).argmax())


def _colored(manifest: Manifest) -> Manifest:
    segments = [
        segment.model_copy(update={"color": color})
        for segment, color in zip(manifest.segment, COLORS, strict=True)
    ]
    return manifest.model_copy(update={"segment": tuple(segments)})


def _labels(manifest: Manifest) -> NDArray[np.uint8]:
    """An ellipsoid and a box, on different slices in part, the same under no flip, turn or shift."""
    first, second = (segment.label for segment in manifest.segment)
    labels = np.zeros(SHAPE, np.uint8)
    slices, rows, columns = np.indices(SHAPE)
    labels[((slices - 2.5) / 2.2) ** 2 + ((rows - 38) / 15) ** 2 + ((columns - 54) / 12) ** 2 <= 1] = first
    labels[3:7, 62:78, 12:38] = second
    return labels
