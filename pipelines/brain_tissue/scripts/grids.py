"""Resampling between an image's own grid and the working grid: 1 mm voxels along R, A, S of the patient.

Affines map voxel indices to millimetres in RAS. A volume in any orientation, oblique or not, comes to lie
the same way, because the working axes are the patient's and not the scanner's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as functional
from torch import Tensor

SPACING_MM = 1.0
LARGEST_MM = 512
"""The working grid is cut to this size about the centre, so that no header can ask for endless memory."""


@dataclass(frozen=True)
class Grid:
    """A voxel grid in the patient: (X, Y, Z) voxels, and the 4x4 affine to millimetres in RAS, float64."""

    shape: tuple[int, int, int]
    affine: Tensor

    @property
    def spacing(self) -> Tensor:
        """Distance of neighbouring voxels along each axis, mm."""
        lengths: Tensor = torch.linalg.vector_norm(self.affine[:3, :3], dim=0)
        return lengths


def working_grid(grid: Grid) -> Grid:
    """The 1 mm grid along R, A, S that holds every voxel of the given one."""
    corners = torch.tensor(list(product(*((0.0, side - 1.0) for side in grid.shape))), dtype=torch.float64)
    places = corners @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    low, high = places.amin(dim=0), places.amax(dim=0)
    middle = (low + high) / 2
    sides = torch.clamp(torch.round((high - low) / SPACING_MM) + 1, 8, LARGEST_MM)
    affine = torch.eye(4, dtype=torch.float64) * SPACING_MM
    affine[3, 3] = 1.0
    affine[:3, 3] = middle - (sides - 1) / 2 * SPACING_MM
    x, y, z = (int(side) for side in sides)
    return Grid((x, y, z), affine)


def crop(grid: Grid, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
    """The part of a grid that starts at these voxel indices."""
    affine = grid.affine.clone()
    affine[:3, 3] += grid.affine[:3, :3] @ torch.tensor(start, dtype=torch.float64)
    return Grid(shape, affine)


def box_within(grid: Grid, other: Grid, low: Tensor, high: Tensor) -> tuple[slice, slice, slice]:
    """The voxels of `grid` that hold the box low..high (voxel indices) of another grid, never none."""
    matrix = torch.linalg.inv(grid.affine) @ other.affine
    corners = torch.tensor(list(product(*zip(low.tolist(), high.tolist(), strict=True))), dtype=torch.float64)
    places = corners @ matrix[:3, :3].T + matrix[:3, 3]
    spans = []
    for axis, side in enumerate(grid.shape):
        start = min(side - 1, max(0, int(places[:, axis].min())))
        spans.append(slice(start, max(start + 1, min(side, int(places[:, axis].max()) + 2))))
    return spans[0], spans[1], spans[2]


def resample(volume: Tensor, source: Grid, target: Grid, outside: float = 0.0) -> Tensor:
    """Linear interpolation of (C, X, Y, Z) float32 from one grid onto another: (C, X', Y', Z').

    Works slab by slab along the first axis of the target, so that the coordinates need little memory.
    """
    matrix = torch.linalg.inv(source.affine) @ target.affine
    size = torch.tensor(source.shape, dtype=torch.float64)
    scale = 2.0 / torch.clamp(size - 1, min=1.0)
    rows = (matrix[:3] * scale[:, None]).flip(0).to(torch.float32)
    rows[:, 3] -= 1.0
    first, second, third = (torch.arange(side, dtype=torch.float32) for side in target.shape)
    plane = second[:, None, None] * rows[:, 1] + third[None, :, None] * rows[:, 2] + rows[:, 3]
    slab = max(1, 4_000_000 // (target.shape[1] * target.shape[2]))
    found = torch.empty((volume.shape[0], *target.shape), dtype=torch.float32)
    source_volume = volume[None] - outside
    for start in range(0, target.shape[0], slab):
        span = first[start : start + slab]
        places = span[:, None, None, None] * rows[:, 0] + plane
        part = functional.grid_sample(
            source_volume, places[None], mode="bilinear", padding_mode="zeros", align_corners=True
        )
        found[:, start : start + slab] = part[0]
    return found + outside if outside else found


def smooth_for(volume: Tensor, spacing: Tensor) -> Tensor:
    """Blur (1, X, Y, Z) along the axes that are much finer than the working grid, against aliasing and
    noise.
    """
    blurred = volume[None]
    for axis in range(3):
        ratio = SPACING_MM / float(spacing[axis])
        if ratio < 1.6:
            continue
        sigma = 0.4 * (ratio**2 - 1) ** 0.5
        radius = max(1, round(2.5 * sigma))
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
        shape = [1, 1, 1, 1, 1]
        shape[axis + 2] = kernel.numel()
        padding = [radius if other == axis else 0 for other in range(3)]
        blurred = functional.conv3d(blurred, (kernel / kernel.sum()).reshape(shape), padding=padding)
    return blurred[0]
