"""What a pipeline found: a label map, maps and marks on the grid of its input, and numbers about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.preview import Preview


@dataclass(frozen=True, slots=True)
class SegmentStatistics:
    """One segment: volume (ml), mean and standard deviation of the input's intensities inside it, and
    the fraction (0 to 1) of its voxels that lie in its largest connected component."""

    volume_ml: float
    mean: float
    sd: float
    largest_component: float


@dataclass(frozen=True, slots=True)
class MarkFound:
    """One mark of the kind `name`. `points`: float64, shape (points, 3), indices (slice, row, column) on the
    grid, whole numbers at the centres of voxels. `probability`: 0 to 1, where the pipeline tells it."""

    name: str
    points: NDArray[np.float64]
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """`labels`: uint8, shape (slices, rows, columns), 0 is background, on the grid of `geometry`.

    `maps`: float32 by the name of the manifest, each of that shape. `answers`: the chosen name by question.
    `preview`: planes of the input to draw; None where no picture is wanted.
    """

    labels: NDArray[np.uint8]
    geometry: Geometry
    statistics: Mapping[str, SegmentStatistics] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    marks: tuple[MarkFound, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    preview: Preview | None = None
