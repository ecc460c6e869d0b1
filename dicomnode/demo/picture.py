"""Three planes of a series with a segmentation laid over them, as a PNG.

Both are turned to the patient's axes (LPS), so that the planes are axial, coronal and sagittal whatever the
acquisition was: to the nearest axes, without resampling. Left on the picture is the patient's right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.imaging.volume import Volume

_HEAD_FIRST = "FPL"
"""Axes that run to the feet, to posterior and to the left: rows go down, columns to the right."""
_WINDOW = (1.0, 99.5)
"""The percentiles of the non-zero intensities that become black and white."""
_OPACITY = 0.45

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as the SEG describes it; `colour` is sRGB, 0 to 1."""

    number: int
    label: str
    colour: Colour


@dataclass(frozen=True, slots=True)
class Overlay:
    """`image` and `labels` have the same shape, with axes to F, P and L; `spacing` (mm) is along these axes.

    `labels` holds segment numbers, 0 is none.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    spacing: tuple[float, float, float]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane of an Overlay: `mm` is (height, width), `edges` the patient's direction at each edge."""

    title: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    mm: tuple[float, float]
    edges: tuple[str, str, str, str]
    """Left, right, top, bottom."""


def overlay(series: Volume, seg: Dataset) -> Overlay:
    """Lay a BINARY SEG over the series that it was made from, each frame at its own position (mm, LPS)."""
    segmentation = highdicom.seg.Segmentation.from_dataset(seg, copy=False)
    image = highdicom.Volume(
        series.array,
        series.geometry.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=series.geometry.FrameOfReferenceUID,
    ).to_patient_orientation(_HEAD_FIRST)
    labels = segmentation.get_volume(combine_segments=True, dtype=np.uint8).match_geometry(image)
    down, back, left = (float(step) for step in image.spacing)
    return Overlay(
        np.asarray(image.array, np.float32),
        np.asarray(labels.array, np.uint8),
        (down, back, left),
        tuple(_segment(item) for item in seg.SegmentSequence),
    )


def planes(shown: Overlay) -> tuple[Plane, Plane, Plane]:
    """The axial, coronal and sagittal plane through the fullest part of the segmentation."""
    height, depth, width = (n * mm for n, mm in zip(shown.labels.shape, shown.spacing, strict=True))
    f, p, left = (_fullest(shown.labels, axis) for axis in range(3))
    image, labels = shown.image, shown.labels
    return (
        Plane("axial", image[f], labels[f], (depth, width), ("R", "L", "A", "P")),
        Plane("coronal", image[:, p], labels[:, p], (height, width), ("R", "L", "S", "I")),
        Plane("sagittal", image[:, :, left], labels[:, :, left], (height, depth), ("A", "P", "S", "I")),
    )


def draw(shown: Overlay, title: str, volumes_ml: Mapping[int, float], path: Path) -> None:
    """Write the PNG: the planes as they are, and below with the segments; `volumes_ml` by segment number."""
    figure = Figure(figsize=(12, 8.8), dpi=110, facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 3, gridspec_kw={"hspace": 0.06, "wspace": 0.06})
    figure.subplots_adjust(left=0.03, right=0.97, top=0.89, bottom=0.08)
    levels = _levels(shown.image)
    for column, plane in enumerate(planes(shown)):
        for row, segments in enumerate(((), shown.segments)):
            _draw_plane(grid[row, column], plane, segments, levels)
        box = grid[0, column].get_position(original=True)
        centre = (box.x0 + box.x1) / 2
        figure.text(centre, 0.915, plane.title, color="silver", fontsize=11, va="center", ha="center")
    figure.text(0.03, 0.965, title, color="white", fontsize=13, va="center")
    figure.text(
        0.97, 0.965, "RESEARCH ONLY", color="orange", fontsize=13, weight="bold", va="center", ha="right"
    )
    _draw_legend(figure, shown.segments, volumes_ml)
    figure.savefig(path, facecolor="black")


def _segment(item: Dataset) -> Segment:
    lab = item.get("RecommendedDisplayCIELabValue")
    rgb = CIELabColor.from_dicom_value(lab).to_rgb() if lab else (255, 200, 0)
    red, green, blue = (channel / 255 for channel in rgb)
    return Segment(int(item.SegmentNumber), str(item.SegmentLabel), (red, green, blue))


def _fullest(labels: NDArray[np.uint8], axis: int) -> int:
    others = tuple(other for other in range(3) if other != axis)
    counts = np.count_nonzero(labels, axis=others)
    return int(counts.argmax()) if counts.any() else labels.shape[axis] // 2


def _levels(image: NDArray[np.float32]) -> tuple[float, float]:
    """The intensities shown as black and as white; air, being 0 or nearly so, does not count."""
    tissue = image[image > image.min()]
    low, high = np.percentile(tissue, _WINDOW) if tissue.size else (0.0, 1.0)
    return float(min(low, high - 1)), float(high)


def _draw_plane(axes: Axes, plane: Plane, segments: Sequence[Segment], levels: tuple[float, float]) -> None:
    height, width = plane.mm
    place: dict[str, Any] = {"extent": (0, width, height, 0), "interpolation": "nearest"}
    axes.imshow(plane.image, cmap="gray", vmin=levels[0], vmax=levels[1], **place)
    if segments:
        axes.imshow(_colours(plane.labels, segments), **place)
    axes.set_axis_off()
    left, right, top, bottom = plane.edges
    for x, y, letter in ((0.03, 0.5, left), (0.97, 0.5, right), (0.5, 0.97, top), (0.5, 0.03, bottom)):
        text = axes.text(x, y, letter, transform=axes.transAxes, color="yellow", ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _colours(labels: NDArray[np.uint8], segments: Sequence[Segment]) -> NDArray[np.float32]:
    """RGBA of the label map; what belongs to no segment is transparent."""
    rgba = np.zeros((*labels.shape, 4), np.float32)
    for segment in segments:
        rgba[labels == segment.number] = (*segment.colour, _OPACITY)
    return rgba


def _draw_legend(figure: Figure, segments: Sequence[Segment], volumes_ml: Mapping[int, float]) -> None:
    handles = [
        Patch(color=segment.colour, label=legend_line(segment, volumes_ml.get(segment.number)))
        for segment in segments
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=min(len(handles), 4),
        frameon=False,
        labelcolor="white",
        fontsize=12,
    )


def legend_line(segment: Segment, volume_ml: float | None) -> str:
    """A segment's name, and its volume where it was measured."""
    return segment.label if volume_ml is None else f"{segment.label}  {volume_ml:.1f} ml"
