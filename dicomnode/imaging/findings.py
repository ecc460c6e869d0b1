"""What a pipeline found: a label map on the grid of its input, and numbers about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.geometry import Geometry


@dataclass(frozen=True, slots=True)
class SegmentStatistics:
    """One segment: volume (ml), mean and standard deviation of the input's intensities inside it, and
    the fraction (0 to 1) of its voxels that lie in its largest connected component."""

    volume_ml: float
    mean: float
    sd: float
    largest_component: float


@dataclass(frozen=True, slots=True)
class Findings:
    """`labels`: uint8, shape (slices, rows, columns), 0 is background, on the grid of `geometry`."""

    labels: NDArray[np.uint8]
    geometry: Geometry
    statistics: Mapping[str, SegmentStatistics] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
