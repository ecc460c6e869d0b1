"""The heads that teach: the MNI152 template of nilearn and Colin27, both on 1 mm grids along R, A, S.

One definition of the classes holds for both. White matter includes the brain stem; grey matter includes the
deep nuclei; CSF is the ventricles and the dark fluid between the folds and around the brain, up to 1 mm
outside the closed surface of the tissue. Everything else (skull, scalp, meninges, air) is background.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.processing import resample_from_to
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from . import teacher

CSF, GREY, WHITE = 1, 2, 3
PART_CSF = 18
"""Parts 1..17 are the teacher's classes, 18 is the fluid around the brain, 19.. are kinds of surroundings."""
SURROUNDINGS = 8
PARTS = PART_CSF + 1 + SURROUNDINGS
SHELL_LIMIT_MM = 30.0

_FLUID_MM = 1.0
_CLOSING_MM = 5


@dataclass(frozen=True)
class Source:
    """One head on a 1 mm grid along R, A, S; every array has the same shape (X, Y, Z)."""

    name: str
    image: Tensor
    """float32, white matter scaled to 1."""
    labels: Tensor
    """uint8, 0 background, 1 CSF, 2 grey matter, 3 white matter."""
    parts: Tensor
    """uint8, what is drawn with one intensity in a synthetic image; 0 is air."""
    shell: Tensor
    """float32, millimetres outside the closed surface of the brain, 0 inside, at most `SHELL_LIMIT_MM`."""


def _ball(radius: int) -> NDArray[np.bool_]:
    """A ball of so many voxels as a structuring element."""
    span = np.arange(-radius, radius + 1) ** 2
    return np.asarray(span[:, None, None] + span[None, :, None] + span[None, None, :] <= radius**2)


def _shell(tissue: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Millimetres outside the closed, filled surface of the tissue on a 1 mm grid."""
    padded = np.pad(tissue, _CLOSING_MM)
    closed = ndimage.binary_closing(padded, _ball(_CLOSING_MM))
    hull = ndimage.binary_fill_holes(closed)[(slice(_CLOSING_MM, -_CLOSING_MM),) * 3]
    distance = np.asarray(ndimage.distance_transform_edt(~hull), dtype=np.float32)
    return np.minimum(distance, np.float32(SHELL_LIMIT_MM))


def _surroundings(image: NDArray[np.float32], outside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What lies around the brain, cut into classes of equal spacing in intensity; air is 0."""
    edges = np.linspace(0.08, 1.4, SURROUNDINGS)
    kinds = np.digitize(ndimage.gaussian_filter(image, 0.5), edges)
    return np.where(outside & (kinds > 0), PART_CSF + kinds, 0).astype(np.uint8)


def _assemble(
    name: str, image: NDArray[np.float32], labels: NDArray[np.uint8], deep: NDArray[np.uint8]
) -> Source:
    """Complete a head from its tissue labels: fluid around the brain, parts, shell."""
    tissue = labels > 0
    shell = _shell(tissue)
    grey = np.median(image[labels == GREY])
    relative = image / grey
    fluid = ((shell == 0) & (relative < 1.0)) | ((shell <= _FLUID_MM) & (relative < 0.55))
    labels = np.where(fluid & ~tissue, CSF, labels).astype(np.uint8)
    parts = np.select([labels == WHITE, labels == GREY, labels == CSF], [1, 2, PART_CSF], 0)
    kept = (deep > 2) & (labels > 0)
    parts = np.where(kept, deep, parts)
    parts = np.where(labels == 0, _surroundings(image, labels == 0), parts).astype(np.uint8)
    return Source(
        name, *(torch.from_numpy(np.ascontiguousarray(part)) for part in (image, labels, parts, shell))
    )


def _tissue(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The teacher's 18 classes as CSF (ventricles only), grey and white matter."""
    found = [
        np.isin(classes, kind) for kind in (teacher.VENTRICLES, teacher.GREY_MATTER, teacher.WHITE_MATTER)
    ]
    return np.select(found, [CSF, GREY, WHITE], 0).astype(np.uint8)


def load_colin27(image_path: Path, weights: Path) -> Source:
    """Colin27 with its skull, labelled by the published MeshNet."""
    stored = nib.load(str(image_path))
    classes = teacher.label_head(stored, weights)
    image = np.asarray(stored.dataobj, dtype=np.float32)
    image /= np.median(image[classes == 1])
    return _assemble("colin27", image, _tissue(classes), classes)


def load_mni152(colin_path: Path, weights: Path) -> Source:
    """The MNI152 template with the tissue maps of nilearn, set into the surroundings of Colin27.

    Both brains lie in the same stereotactic space, so Colin27's skull and scalp fit around the template.
    """
    from nilearn import datasets

    template = datasets.load_mni152_template(resolution=1)
    grey_map = np.asarray(datasets.load_mni152_gm_template(resolution=1).dataobj, dtype=np.float32)
    white_map = np.asarray(datasets.load_mni152_wm_template(resolution=1).dataobj, dtype=np.float32)
    brain = np.asarray(template.dataobj, dtype=np.float32)
    brain /= np.median(brain[white_map > 0.9 * white_map.max()])
    around = np.asarray(
        resample_from_to(nib.load(str(colin_path)), template, order=1).dataobj, dtype=np.float32
    )
    around /= np.median(around[white_map > 0.9 * white_map.max()])
    image = np.where(brain > 0, brain, around).astype(np.float32)
    classes = teacher.label_head(nib.Nifti1Image(image, template.affine), weights)
    labels = _map_labels(brain, grey_map / grey_map.max(), white_map / white_map.max())
    deep = np.isin(classes, (7, 8, 9, 10)) & (labels > 0)
    labels[deep] = GREY
    labels[np.isin(classes, (13, 17)) & (labels > 0)] = WHITE
    return _assemble("mni152", image, labels, np.where(classes > 2, classes, 0).astype(np.uint8))


def _map_labels(
    brain: NDArray[np.float32], grey: NDArray[np.float32], white: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Tissue of the template: the likeliest class of the maps, fluid where the template is as dark as
    fluid.
    """
    fluid = np.clip(1.0 - grey - white, 0.0, 1.0)
    likeliest = np.stack([fluid, grey, white]).argmax(axis=0) + 1
    grey_level = np.median(brain[(likeliest == GREY) & (grey > 0.9)])
    fluid_level = np.median(brain[(likeliest == CSF) & (brain > 0)])
    dark = brain < 0.5 * (grey_level + min(fluid_level, 0.6 * grey_level))
    labels = np.where(dark & (likeliest == GREY), CSF, likeliest)
    return np.where(brain > 0, labels, 0).astype(np.uint8)


def load_sources(colin27: str, teacher_weights: str, cache: str = "") -> list[Source]:
    """The heads that teach: Colin27 and MNI152. With `cache` they are made once and kept in that file."""
    if cache and Path(cache).is_file():
        stored = torch.load(cache, weights_only=True)
        return [Source(**entry) for entry in stored]
    for path in (colin27, teacher_weights):
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{path or '(none given)'}: the training needs this file, see docs/README.md"
            )
    weights = Path(teacher_weights)
    sources = [load_colin27(Path(colin27), weights), load_mni152(Path(colin27), weights)]
    if cache:
        Path(cache).parent.mkdir(parents=True, exist_ok=True)
        torch.save([vars(source) for source in sources], cache)
    return sources
