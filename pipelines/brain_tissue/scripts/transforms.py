"""What happens before and after the network, as MONAI dictionary transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from scipy import ndimage
from torch import Tensor

from .grids import Grid, box_within, crop, resample, smooth_for, working_grid

_MARGIN_MM = 4
_STEP = 8
_CORE_MM = 7.0
_REGROWN_MM = 1.5


def _quantile(values: Tensor, share: float) -> float:
    """The quantile of a sample of at most a million values; 0 of nothing."""
    flat = values.flatten()
    sample = flat[:: max(1, flat.numel() // 1_000_000)]
    if sample.numel() == 0:
        return 0.0
    place = min(sample.numel() - 1, int(share * sample.numel()))
    return float(sample.kthvalue(place + 1).values)


def normalise(volume: Tensor) -> Tensor:
    """Intensities of any scale to 0..1.5, where 1 is nearly the brightest of what is not air.

    A volume of one value becomes all 0.
    """
    values = torch.nan_to_num(volume.to(torch.float32), nan=0.0, posinf=0.0, neginf=0.0)
    values = values - _quantile(values, 0.005)
    top = _quantile(values, 0.999)
    if top <= 0:
        top = float(values.max())
    if top <= 0:
        return torch.zeros_like(values)
    bright = _quantile(values[values > 0.1 * top], 0.98)
    return (values / (bright or top)).clamp(0.0, 1.5)


def _foreground(volume: Tensor) -> tuple[list[int], list[int]]:
    """Start and stop, along each axis, of what is not air in (X, Y, Z), with a margin; all of an empty
    volume.
    """
    mask = (volume > 0.15).to(torch.float32)
    starts, stops = [], []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        filled = torch.nonzero(mask.mean(dim=others) > 0.005).flatten()
        side = volume.shape[axis]
        starts.append(max(0, int(filled[0]) - _MARGIN_MM) if filled.numel() else 0)
        stops.append(min(side, int(filled[-1]) + 1 + _MARGIN_MM) if filled.numel() else min(side, _STEP))
    return starts, stops


class ToWorkingGridd(Transform):  # type: ignore[misc]
    """The image, normalised, on the working grid and cut to what is not air.

    `image`: (X, Y, Z) or (1, X, Y, Z) with an affine in RAS mm becomes (1, x, y, z), sides divisible by 8.
    The grid that it came from is kept under `grid_key` for the way back.
    """

    def __init__(self, key: str = "image", grid_key: str = "grids") -> None:
        self.key, self.grid_key = key, grid_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Onto the working grid."""
        result = dict(data)
        image = result[self.key]
        volume = image.as_tensor() if isinstance(image, MetaTensor) else image
        volume = volume.detach().cpu().to(torch.float32)
        volume = volume[0] if volume.ndim == 4 else volume
        affine = torch.as_tensor(image.affine, dtype=torch.float64).cpu()
        x, y, z = volume.shape
        own = Grid((x, y, z), affine)
        wide = working_grid(own)
        scaled = normalise(volume)[None]
        moved = resample(smooth_for(scaled, own.spacing), own, wide)[0]
        starts, stops = _foreground(moved)
        sides = [-(-(stop - start) // _STEP) * _STEP for start, stop in zip(starts, stops, strict=True)]
        work = crop(wide, (starts[0], starts[1], starts[2]), (sides[0], sides[1], sides[2]))
        padded = torch.zeros(work.shape)
        part = moved[tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))]
        padded[: part.shape[0], : part.shape[1], : part.shape[2]] = part
        result[self.grid_key] = (own, work)
        result[self.key] = MetaTensor(padded[None], affine=work.affine)
        return result


class ToLabelsd(Transform):  # type: ignore[misc]
    """The network's logits (4, x, y, z) on the working grid to labels (1, X, Y, Z) uint8 on the image's own
    grid.

    Only the bulk of what was taken for brain is kept. Beside the labels it leaves what tells a brain from
    nonsense: `confidence`, the mean probability of the class chosen, in the brain; `kept_fraction`, the
    share of the voxels taken for brain that were kept; `cut_area_cm2`, how much brain lies on the
    faces of the volume; `white_depth_mm`, how much deeper white matter lies than grey matter.
    """

    def __init__(self, key: str = "pred", grid_key: str = "grids") -> None:
        self.key, self.grid_key = key, grid_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Back onto the image's own grid."""
        result = dict(data)
        logits = result[self.key]
        logits = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
        chances = logits.detach().cpu().to(torch.float32).softmax(dim=0)
        own, work = result.pop(self.grid_key)
        # One pass: torch's argmax takes ten times as long over a first dimension.
        best, kind = chances.max(dim=0)
        brain, kept_fraction = main_piece(kind > 0)
        result["confidence"] = float(best[brain].mean()) if bool(brain.any()) else 0.0
        result["kept_fraction"] = kept_fraction
        result["white_depth_mm"] = white_depth(kind, brain)
        chances[1:] *= brain
        chances[0] = torch.where(brain, chances[0], torch.ones(()))
        labels = _labels_on(chances, work, own)
        result["cut_area_cm2"] = cut_area(labels > 0, own.spacing)
        result[self.key] = MetaTensor(labels[None], affine=own.affine)
        return result


def _labels_on(chances: Tensor, work: Grid, own: Grid) -> Tensor:
    """The likeliest class at each voxel of the image's own grid: (X, Y, Z) uint8."""
    labels = torch.zeros(own.shape, dtype=torch.uint8)
    found = torch.nonzero(chances[0] < 1.0)
    if found.numel() == 0:
        return labels
    box = box_within(own, work, found.amin(dim=0) - 1, found.amax(dim=0) + 1)
    start = (box[0].start, box[1].start, box[2].start)
    shape = (box[0].stop - start[0], box[1].stop - start[1], box[2].stop - start[2])
    tissue = resample(chances[1:], work, crop(own, start, shape))
    best, label = tissue.max(dim=0)
    background = 1.0 - tissue.sum(dim=0)
    labels[box] = torch.where(best > background, label + 1, 0).to(torch.uint8)
    return labels


def main_piece(brain: Tensor) -> tuple[Tensor, float]:
    """The bulk of a mask (X, Y, Z) of 1 mm voxels, and its share of the mask; 0 of an empty mask.

    What hangs on by less than about 14 mm (neck, eyes, scalp) falls away: the largest piece of the mask
    eroded by 7 mm, grown by little more than that again inside the mask.
    """
    mask = np.asarray(brain.numpy(), dtype=bool)
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return brain, 0.0
    box = boxes[0]
    inside = np.pad(mask[box], 1)
    pieces, count = ndimage.label(ndimage.distance_transform_edt(inside) > _CORE_MM)
    if count == 0:
        return torch.zeros_like(brain), 0.0
    core = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    near = inside & (ndimage.distance_transform_edt(~core) <= _CORE_MM + _REGROWN_MM)
    kept = np.zeros_like(mask)
    kept[box] = near[1:-1, 1:-1, 1:-1]
    return torch.from_numpy(kept), float(kept.sum()) / float(mask.sum())


def white_depth(labels: Tensor, brain: Tensor) -> float:
    """How much deeper in the brain the white matter lies than the grey, mm: difference of the mean depths.

    Labels and mask (X, Y, Z) of 1 mm voxels. Where fluid is brighter than tissue it is near 0 or less.
    """
    boxes = ndimage.find_objects(brain.numpy().astype(np.uint8))
    if not boxes:
        return 0.0
    depth = torch.from_numpy(ndimage.distance_transform_edt(np.pad(brain.numpy()[boxes[0]], 1)))
    depth = depth[1:-1, 1:-1, 1:-1]
    kinds = torch.where(brain[boxes[0]], labels[boxes[0]], 0)
    grey, white = depth[kinds == 2], depth[kinds == 3]
    return float(white.mean() - grey.mean()) if grey.numel() and white.numel() else 0.0


def cut_area(brain: Tensor, spacing: Tensor) -> float:
    """Area, in square centimetres, of the mask (X, Y, Z) on the six faces of its volume."""
    area = 0.0
    for axis in range(3):
        others = [float(spacing[other]) for other in range(3) if other != axis]
        faces = brain.select(axis, 0).sum() + brain.select(axis, brain.shape[axis] - 1).sum()
        area += float(faces) * others[0] * others[1] / 100.0
    return area
