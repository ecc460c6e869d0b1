"""Training examples: a random crop of a random head, deformed, drawn anew or re-toned, blurred, noisy.

Everything happens on the crop alone, in torch, from one seeded generator, so that a step costs little and a
training can be repeated. Lengths are millimetres, which are voxels of the 1 mm grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Generator, Tensor

from .sources import PART_CSF, PARTS, SHELL_LIMIT_MM, Source

_GREY_PARTS = (2, 6, 7, 8, 9, 10, 14, 15, 16)
_WHITE_PARTS = (1, 5, 13, 17)
_FLUID_PARTS = (3, 4, 11, 12, PART_CSF)


@dataclass(frozen=True)
class Recipe:
    """How often what happens to an example; probabilities, and standard deviations in the units said."""

    synthetic: float = 0.4
    """Drawn from the labels instead of re-toned from the real image."""
    template: float = 0.4
    """From the MNI152 template instead of Colin27."""
    stripped: float = 0.25
    """The surroundings removed at a random distance from the brain."""
    defaced: float = 0.25
    """The surroundings removed on one side of a random plane."""
    coarse: float = 0.4
    """Seen at a coarser resolution along one axis."""
    rotation_deg: float = 10.0
    scale: float = 0.09
    shear: float = 0.05
    gamma: float = 0.0
    """Mean of the logarithm of the gamma of a re-toned image; above 0 makes grey matter darker against
    white.
    """
    gamma_spread: float = 0.25
    clutter: float = 0.0
    """Strange shapes put where no brain is: necks and faces that neither teacher has."""
    outside: float = 0.05
    """How readily a place outside the brain is taken for the middle of the crop."""
    elastic: float = 0.13
    """Displacement relative to the distance of the control points."""


class Chance:
    """A seeded source of chance."""

    def __init__(self, seed: int) -> None:
        self.generator = Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        """A number between low and high."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def normal(self, spread: float = 1.0) -> float:
        """A number about 0 with this standard deviation."""
        return spread * float(torch.randn((), generator=self.generator))

    def happens(self, probability: float) -> bool:
        """True so often."""
        return self.uniform(0.0, 1.0) < probability

    def index(self, size: int) -> int:
        """A whole number from 0 to size - 1."""
        return min(int(self.uniform(0.0, size)), size - 1)

    def field(self, *shape: int) -> Tensor:
        """Independent standard normal numbers of this shape."""
        return torch.randn(*shape, generator=self.generator)


def _affine(chance: Chance, recipe: Recipe) -> Tensor:
    """A random 3x3 matrix: rotation, scale, shear, and left-right mirroring half the time."""
    matrix = torch.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = math.radians(chance.normal(recipe.rotation_deg))
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    shear = torch.eye(3) + recipe.shear * torch.triu(chance.field(3, 3), diagonal=1)
    size = math.exp(chance.normal(recipe.scale))
    scales = torch.exp(0.5 * recipe.scale * chance.field(3)) * size
    if chance.happens(0.5):
        scales[0] = -scales[0]
    return matrix @ shear @ torch.diag(scales)


def _centre(chance: Chance, source: Source, outside: float) -> Tensor:
    """Where the crop is taken: mostly in the brain, sometimes anywhere. Voxel coordinates."""
    shape = torch.tensor(source.labels.shape, dtype=torch.float32)
    for _ in range(200):
        place = torch.rand(3, generator=chance.generator) * (shape - 1)
        i, j, k = (int(v) for v in place)
        if int(source.labels[i, j, k]) > 0 or chance.happens(outside):
            return place
    return shape / 2


def _smooth_field(chance: Chance, channels: int, points: int, side: int) -> Tensor:
    """A smooth random field (1, channels, side, side, side) from so many control points along each axis."""
    coarse = chance.field(1, channels, points, points, points)
    return functional.interpolate(coarse, size=(side, side, side), mode="trilinear", align_corners=True)


def _coordinates(chance: Chance, source: Source, recipe: Recipe, side: int) -> Tensor:
    """Where each voxel of the crop comes from in the source: (side, side, side, 3) voxel coordinates."""
    span = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    grid = torch.stack(torch.meshgrid(span, span, span, indexing="ij"), dim=-1)
    for points in (4, 2 + side // 14):
        strength = recipe.elastic * side / (points - 1) * chance.uniform(0.0, 1.0)
        grid = grid + strength * _smooth_field(chance, 3, points, side)[0].permute(1, 2, 3, 0)
    return grid @ _affine(chance, recipe).T + _centre(chance, source, recipe.outside)


def _sample(stack: Tensor, coordinates: Tensor, mode: str) -> Tensor:
    """Values of (C, X, Y, Z) at voxel coordinates (a, b, c, 3), 0 outside: (C, a, b, c)."""
    size = torch.tensor(stack.shape[1:], dtype=torch.float32)
    unit = (coordinates / (size - 1) * 2 - 1).flip(-1)
    found = functional.grid_sample(
        stack[None], unit[None], mode=mode, padding_mode="zeros", align_corners=True
    )
    return found[0]


def _part_levels(chance: Chance) -> tuple[Tensor, Tensor]:
    """Mean and spread of each part in a T1 image: white over grey over fluid, surroundings as they come."""
    white = 1.0
    grey = chance.uniform(0.5, 0.88)
    fluid = chance.uniform(0.05, 0.75) * grey
    means = torch.rand(PARTS, generator=chance.generator) * 1.5
    if chance.happens(0.5):
        step = torch.linspace(0.1, 1.4, PARTS - PART_CSF - 1)
        means[PART_CSF + 1 :] = step * chance.uniform(0.5, 1.5) + 0.1 * chance.field(step.numel())
    for parts, level, spread in (
        (_WHITE_PARTS, white, 0.03),
        (_GREY_PARTS, grey, 0.03),
        (_FLUID_PARTS, fluid, 0.03),
    ):
        for part in parts:
            means[part] = level + chance.normal(spread)
    for part in (7, 9, 10):
        means[part] = grey + (white - grey) * chance.uniform(0.0, 0.75 if part == 10 else 0.5)
    means[0] = chance.uniform(0.0, 0.1)
    spreads = torch.rand(PARTS, generator=chance.generator) * 0.08 + 0.01
    return means.clamp(min=0.0), spreads


def _blur(image: Tensor, sigma: float, axes: tuple[int, ...] = (2, 3, 4)) -> Tensor:
    """Gaussian blur of (1, 1, X, Y, Z) along the axes; sigma in voxels."""
    radius = max(1, math.ceil(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / max(sigma, 1e-3)) ** 2)
    kernel = kernel / kernel.sum()
    for axis in axes:
        shape = [1, 1, 1, 1, 1]
        shape[axis] = kernel.numel()
        padding = [radius if other == axis else 0 for other in (2, 3, 4)]
        image = functional.conv3d(image, kernel.reshape(shape), padding=padding)
    return image


def _draw(chance: Chance, parts: Tensor) -> Tensor:
    """A synthetic T1 image (X, Y, Z) from parts (X, Y, Z)."""
    means, spreads = _part_levels(chance)
    index = parts.long()
    image = means[index] + spreads[index] * chance.field(*parts.shape)
    return _blur(image[None, None], chance.uniform(0.35, 0.75))[0, 0]


def _retone(chance: Chance, image: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """A real image (X, Y, Z) with other contrasts: gains of each class, a monotone curve, gamma."""
    gains = torch.exp(chance.field(4) * torch.tensor([0.3, 0.2, 0.05, 0.03]))
    gain = gains[labels.long()][None, None]
    image = image * functional.avg_pool3d(functional.pad(gain, (1,) * 6, mode="replicate"), 3, stride=1)[0, 0]
    gamma = math.exp(recipe.gamma + chance.normal(recipe.gamma_spread))
    image = image.clamp(min=0.0) ** gamma
    bend = chance.uniform(-0.15, 0.15)
    return image + bend * torch.sin(math.pi * image.clamp(0.0, 2.0))


def _clutter(chance: Chance, image: Tensor, shell: Tensor) -> Tensor:
    """Blobs and bands of a few tones, and some texture, at a distance from the brain, as necks and faces
    have.
    """
    side = image.shape[0]
    far = shell > chance.uniform(3.0, 18.0)
    if chance.happens(0.5):
        span = torch.linspace(-1, 1, side)
        slope = functional.normalize(chance.field(3), dim=0)
        plane = (
            span[:, None, None] * slope[0] + span[None, :, None] * slope[1] + span[None, None, :] * slope[2]
        )
        far &= plane > chance.uniform(-0.8, 0.5)
    tones = chance.uniform(0.5, 1.3) * torch.rand(8, generator=chance.generator)
    shapes = _smooth_field(chance, 1, 4 + chance.index(side // 5), side)[0, 0]
    drawn = tones[((shapes + 1.5) * 2.6).long().clamp(0, 7)]
    drawn = drawn + chance.uniform(0.01, 0.1) * chance.field(side, side, side)
    drawn = _blur(drawn[None, None], chance.uniform(0.4, 1.2))[0, 0]
    return torch.where(far, drawn, image)


def _strip(chance: Chance, image: Tensor, shell: Tensor, recipe: Recipe) -> Tensor:
    """Without the surroundings, wholly or on one side of a plane, as brain extraction and defacing leave a
    head.
    """
    side = image.shape[0]
    if chance.happens(recipe.stripped):
        rough = chance.uniform(0.0, 1.5) * _smooth_field(chance, 1, 2 + side // 10, side)[0, 0]
        return torch.where(shell > chance.uniform(0.5, 5.0) + rough, torch.zeros(()), image)
    if chance.happens(recipe.defaced):
        span = torch.linspace(-1, 1, side)
        normal = functional.normalize(chance.field(3), dim=0)
        plane = (
            span[:, None, None] * normal[0]
            + span[None, :, None] * normal[1]
            + span[None, None, :] * normal[2]
        )
        far = (plane > chance.uniform(-0.5, 0.8)) & (shell > chance.uniform(2.0, 10.0))
        return torch.where(far, torch.zeros(()), image)
    return image


def _scan(chance: Chance, image: Tensor, recipe: Recipe) -> Tensor:
    """What a scanner adds to (X, Y, Z): bias field, resolution, Rician noise, an arbitrary gain."""
    side = image.shape[0]
    bias = chance.uniform(0.0, 0.25) * _smooth_field(chance, 1, 3 + chance.index(2), side)
    volume = image[None, None] * torch.exp(bias)
    if chance.happens(recipe.coarse):
        axis, thickness = chance.index(3), chance.uniform(1.0, 2.6)
        volume = _blur(volume, 0.35 * thickness, (axis + 2,))
        size = [side, side, side]
        size[axis] = max(8, round(side / thickness))
        volume = functional.interpolate(volume, size=size, mode="trilinear")
        volume = functional.interpolate(volume, size=(side, side, side), mode="trilinear")
    if chance.happens(0.4):
        volume = _blur(volume, chance.uniform(0.3, 0.7))
    level = chance.uniform(0.0, 0.07)
    noise = level * chance.field(2, side, side, side)
    volume = torch.sqrt((volume[0, 0] + noise[0]) ** 2 + noise[1] ** 2)
    return (volume * chance.uniform(0.45, 1.1)).clamp(0.0, 1.5)


def make_example(sources: list[Source], recipe: Recipe, seed: int, side: int) -> tuple[Tensor, Tensor]:
    """One example: image (1, side, side, side) float32, labels (side, side, side) int64, for this seed."""
    chance = Chance(seed)
    source = sources[1] if chance.happens(recipe.template) and len(sources) > 1 else sources[0]
    coordinates = _coordinates(chance, source, recipe, side)
    inside = torch.ones_like(source.image)
    smooth = _sample(torch.stack([source.image, source.shell, inside]), coordinates, "bilinear")
    discrete = _sample(torch.stack([source.labels, source.parts]).float(), coordinates, "nearest")
    image, distance = smooth[0], smooth[1]
    labels, parts = discrete[0].round(), discrete[1].round()
    image = (
        _draw(chance, parts) if chance.happens(recipe.synthetic) else _retone(chance, image, labels, recipe)
    )
    if recipe.clutter > 0 and chance.happens(recipe.clutter):
        beyond = torch.where(smooth[2] < 0.5, SHELL_LIMIT_MM, distance)
        image = _clutter(chance, image, torch.where(labels > 0, 0.0, beyond))
    if chance.happens(0.3):
        image = _scan(chance, _strip(chance, image, distance, recipe), recipe)
    else:
        image = _strip(chance, _scan(chance, image, recipe), distance, recipe)
    return image[None], labels.long()
