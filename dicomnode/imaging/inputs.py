"""What a pipeline takes, by the `input` of its manifest: the volume of a series, or one projection image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

from dicomnode.imaging.geometry import Geometry, series_geometry
from dicomnode.imaging.projection import image_geometry, read_image
from dicomnode.imaging.stacks import Choose
from dicomnode.imaging.volume import Volume, read_volume

Kind = Literal["volume", "projection"]


def input_geometry(
    headers: Sequence[Dataset], kind: Kind, choose: Choose | None = None
) -> tuple[Geometry, tuple[Dataset, ...]]:
    """`series_geometry` or `image_geometry`, with their errors."""
    return (series_geometry if kind == "volume" else image_geometry)(headers, choose)


def read_input(paths: Sequence[Path], kind: Kind, choose: Choose | None = None) -> Volume:
    """`read_volume` or `read_image`, with their errors."""
    return (read_volume if kind == "volume" else read_image)(paths, choose)
