"""What a child says it found, checked against what the parent knows by itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import GateFailed
from dicomnode.imaging.findings import Findings, SegmentStatistics
from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.statistics import ALL
from dicomnode.model.manifest import Manifest
from dicomnode.pipeline.contract import LABELS, Done

_NPY_HEADER = 4096
_VOLUME_TOLERANCE_ML = 1e-6


def checked_findings(done: Done, folder: Path, geometry: Geometry, manifest: Manifest) -> Findings:
    """The findings, with the label map from `folder` on the parent's own `geometry`. Raises GateFailed."""
    labels = _read_labels(folder / LABELS, geometry)
    by_name = {segment.name: segment.label for segment in manifest.segment}
    counts = np.bincount(labels.ravel(), minlength=256)
    if unknown := [int(label) for label in np.flatnonzero(counts) if label and label not in by_name.values()]:
        raise GateFailed(f"{len(unknown)} labels are not in the manifest, the first is {unknown[0]}")
    if set(done.statistics) != {*by_name, ALL}:
        raise GateFailed("statistics are not those of the manifest's segments")
    if set(done.values) != {value.name for value in manifest.value}:
        raise GateFailed("values are not those of the manifest")
    statistics = {
        name: SegmentStatistics(**numbers.model_dump()) for name, numbers in done.statistics.items()
    }
    for name, label in by_name.items():
        volume_ml = int(counts[label]) * geometry.voxel_ml
        if abs(statistics[name].volume_ml - volume_ml) > _VOLUME_TOLERANCE_ML * max(1.0, volume_ml):
            raise GateFailed(f"the volume of {name} is not that of its voxels")
    return Findings(labels, geometry, statistics, dict(done.values))


def _read_labels(file: Path, geometry: Geometry) -> NDArray[np.uint8]:
    expected = int(np.prod(geometry.shape))
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            if os.fstat(descriptor).st_size > expected + _NPY_HEADER:
                raise GateFailed("the label map is larger than the grid of the input")
            labels = np.load(opened, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise GateFailed("the label map cannot be read") from None
    file.unlink()
    if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.shape != geometry.shape:
        raise GateFailed("the label map is not on the grid of the input")
    return labels
