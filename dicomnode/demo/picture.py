"""Three planes of a series with a segmentation laid over them, as a PNG: what the archive holds, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from dicomnode.imaging.preview import preview_of
from dicomnode.imaging.volume import Volume
from dicomnode.results.drawing import draw as drawn
from dicomnode.results.planes import Plane, turned_planes
from dicomnode.results.summary import Colour, Row

_UNCOLOURED = (255, 200, 0)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as the SEG describes it."""

    number: int
    label: str
    colour: Colour


@dataclass(frozen=True, slots=True)
class Overlay:
    """A series, and `labels` on its grid: segment numbers, 0 is none."""

    series: Volume
    labels: NDArray[np.uint8]
    segments: tuple[Segment, ...]


def overlay(series: Volume, seg: Dataset) -> Overlay:
    """Lay a BINARY SEG over the series that it was made from, each frame at its own position (mm, LPS)."""
    segmentation = highdicom.seg.Segmentation.from_dataset(seg, copy=False)
    grid = highdicom.Volume(
        series.array,
        series.geometry.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=series.geometry.FrameOfReferenceUID,
    )
    labels = segmentation.get_volume(combine_segments=True, dtype=np.uint8).match_geometry(grid)
    segments = tuple(_segment(item) for item in seg.SegmentSequence)
    return Overlay(series, np.asarray(labels.array, np.uint8), segments)


def planes(shown: Overlay) -> tuple[Plane, ...]:
    """The axial, coronal and sagittal plane through the fullest part of the segmentation."""
    preview = preview_of(shown.series.array, shown.labels)
    return turned_planes(preview, shown.labels, shown.series.geometry)


def draw(shown: Overlay, title: str, volumes_ml: Mapping[int, float], path: Path) -> None:
    """Write the PNG: the planes as they are, and below with the segments; `volumes_ml` by segment number."""
    rows = [
        Row(segment.colour, segment.label, _volume(volumes_ml.get(segment.number)))
        for segment in shown.segments
    ]
    colours = {segment.number: segment.colour for segment in shown.segments}
    Image.fromarray(drawn(title, planes(shown), rows, colours, {}, research_only=True)).save(path)


def _segment(item: Dataset) -> Segment:
    lab = item.get("RecommendedDisplayCIELabValue")
    red, green, blue = CIELabColor.from_dicom_value(lab).to_rgb() if lab else _UNCOLOURED
    return Segment(int(item.SegmentNumber), str(item.SegmentLabel), (int(red), int(green), int(blue)))


def _volume(volume_ml: float | None) -> str:
    return "not measured" if volume_ml is None else f"{volume_ml:.1f} ml"
