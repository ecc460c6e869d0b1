"""What must pass and what must be refused: the volumes, and the manifest's own rules applied to the
results.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from nibabel.processing import resample_from_to
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from .evaluation import read_dicom
from .segmenting import Inferer, load_weights, segment, without_loading

Case = tuple[str, bool, NDArray[np.float32], NDArray[np.float64]]
"""Name, whether it should pass, voxels (X, Y, Z), affine to RAS mm."""


def facts_of(
    labels: NDArray[np.uint8],
    image: NDArray[np.float32],
    affine: NDArray[np.float64],
    values: dict[str, float],
) -> dict[str, Any]:
    """The facts that the `plausible` rules of pipeline.toml speak of."""
    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000.0
    segments = {}
    for label, name in ((1, "csf"), (2, "grey_matter"), (3, "white_matter")):
        mask = labels == label
        segments[name] = _facts_of_mask(mask, voxel_ml)
        inside = image[mask].astype(np.float64)
        segments[name] |= {"mean": float(inside.mean()) if inside.size else 0.0}
        segments[name] |= {"sd": float(inside.std()) if inside.size else 0.0}
    return {"segments": segments, "all": _facts_of_mask(labels > 0, voxel_ml), "values": values}


def _facts_of_mask(mask: NDArray[np.bool_], voxel_ml: float) -> dict[str, float]:
    """Volume and the share of the largest 26-connected piece."""
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box or box[0] is None:
        return {"volume_ml": 0.0, "largest_component": 0.0}
    pieces, _ = ndimage.label(mask[box[0]], structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    return {"volume_ml": float(sizes.sum() * voxel_ml), "largest_component": float(sizes.max() / sizes.sum())}


def refusal(facts: dict[str, Any], manifest: Path) -> str:
    """The code of the first `plausible` rule that is false, or an empty string."""
    import cel

    for rule in tomllib.loads(manifest.read_text("utf-8"))["plausible"]:
        if not cel.evaluate(rule["when"], facts):
            return str(rule["code"])
    return ""


def resliced(image: NDArray[np.float32], affine: NDArray[np.float64], thickness: float) -> Case:
    """The same head in thicker slices along its last axis, averaged as a scanner would."""
    spacing = float(np.linalg.norm(affine[:3, 2]))
    blurred = ndimage.gaussian_filter1d(image, 0.42 * thickness / spacing, axis=2)
    count = int(image.shape[2] * spacing / thickness)
    other = affine.copy()
    other[:3, 2] *= thickness / spacing
    moved = resample_from_to(nib.Nifti1Image(blurred, affine), ((*image.shape[:2], count), other), order=1)
    return f"{thickness} mm slices", True, np.asarray(moved.dataobj, dtype=np.float32), other


def oblique(image: NDArray[np.float32], affine: NDArray[np.float64], degrees: float = 17.0) -> Case:
    """The same head on an oblique grid of 1 mm, turned by so many degrees about two axes."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    about_z = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    other = np.eye(4)
    other[:3, :3] = about_x @ about_z
    sides = np.array([210, 250, 230])
    middle = affine[:3, :3] @ ((np.array(image.shape) - 1) / 2) + affine[:3, 3]
    other[:3, 3] = middle - other[:3, :3] @ ((sides - 1) / 2)
    moved = resample_from_to(nib.Nifti1Image(image, affine), (tuple(sides), other), order=1)
    return "oblique", True, np.asarray(moved.dataobj, dtype=np.float32), other


def flipped(image: NDArray[np.float32], affine: NDArray[np.float64]) -> Case:
    """The same head stored along other axes, two of them backwards."""
    stored = nib.Nifti1Image(image, affine)
    turned = stored.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    return "other storage order", True, np.asarray(turned.dataobj, dtype=np.float32), turned.affine


def spoiled(image: NDArray[np.float32], affine: NDArray[np.float64], seed: int = 7) -> Iterator[Case]:
    """What must be refused, made from a head and from nothing."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(image.ravel()).reshape(image.shape)
    yield "voxels shuffled", False, shuffled, affine
    yield "blank", False, np.zeros_like(image), affine
    yield "constant", False, np.full_like(image, 100.0), affine
    yield "noise", False, rng.normal(100.0, 20.0, image.shape).astype(np.float32), affine
    yield (
        "smooth noise",
        False,
        ndimage.gaussian_filter(rng.normal(size=image.shape), 4).astype(np.float32),
        affine,
    )
    top = np.quantile(image[image > 0], 0.99)
    inverted = np.where(image > 0.1 * top, np.clip(1.15 * top - image, 0, None), image).astype(np.float32)
    yield "contrast inverted (as T2)", False, inverted, affine
    third = image.shape[2] // 3
    yield "lowest third of the slices", False, image[:, :, :third], affine
    middle = affine.copy()
    middle[:3, 3] += affine[:3, 2] * third
    yield "middle third of the slices", False, image[:, :, third : 2 * third], middle


def heads(head: str, colin27: str) -> Iterator[Case]:
    """The heads that must pass, and every spoiled version of the real one."""
    from nilearn import datasets

    template = datasets.load_mni152_template(resolution=1)
    named: list[tuple[str, NDArray[np.float32], NDArray[np.float64]]] = []
    if head:
        named.append(("real head", *read_dicom(Path(head))))
    if colin27:
        stored = nib.load(colin27)
        named.append(("Colin27", np.asarray(stored.dataobj, dtype=np.float32), stored.affine))
    named.append(("MNI152 without skull", np.asarray(template.dataobj, dtype=np.float32), template.affine))
    for name, image, affine in named:
        yield name, True, image, affine
        for case in (resliced(image, affine, 1.5), resliced(image, affine, 2.0), flipped(image, affine)):
            yield f"{name}, {case[0]}", *case[1:]
        turned = oblique(image, affine)
        yield f"{name}, {turned[0]}", *turned[1:]
    first = named[0]
    for case in spoiled(first[1], first[2]):
        yield f"{first[0]}, {case[0]}", *case[1:]


def others(folders: list[str]) -> Iterator[Case]:
    """Series of other body parts, passed as if they were MR."""
    for folder in folders:
        image, affine = read_dicom(Path(folder))
        yield Path(folder).name, False, image, affine


def check(
    network: nn.Module,
    weights: str,
    preprocessing: Compose,
    inferer: Inferer,
    postprocessing: Compose,
    manifest: str,
    head: str,
    colin27: str,
    other_folders: list[str],
    only: str,
) -> int:
    """Print a row of the table for each case; the number of cases that did not go as they should."""
    load_weights(network, weights)
    wrong = 0
    print(
        "| volume | brain ml | CSF | grey | white | kept | confidence | cut cm2 | depth | verdict | right |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for case in chain(heads(head, colin27), others(other_folders)):
        if only in case[0]:
            wrong += not _row(
                case, network, (without_loading(preprocessing), inferer, postprocessing), Path(manifest)
            )
    return wrong


def _row(case: Case, network: nn.Module, steps: tuple[Compose, Inferer, Compose], manifest: Path) -> bool:
    """Segment one case and print its row; whether it went as it should."""
    name, should_pass, image, affine = case
    found = segment(
        network, *steps, MetaTensor(torch.from_numpy(image.copy()), affine=torch.from_numpy(affine))
    )
    values = {key: value for key, value in found.items() if isinstance(value, float)}
    facts = facts_of(np.asarray(found["pred"][0], dtype=np.uint8), image, affine, values)
    verdict = refusal(facts, manifest)
    right = (verdict == "") == should_pass
    volumes = [facts["all"]["volume_ml"], *(part["volume_ml"] for part in facts["segments"].values())]
    numbers = " | ".join(f"{volume:.0f}" for volume in volumes)
    quality = f"{values['kept_fraction']:.2f} | {values['confidence']:.2f} | {values['cut_area_cm2']:.0f}"
    quality += f" | {values['white_depth_mm']:.1f}"
    print(
        f"| {name} | {numbers} | {quality} | {verdict or 'passes'} | {'yes' if right else 'NO'} |", flush=True
    )
    return right
