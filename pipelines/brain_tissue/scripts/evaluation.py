"""How well the bundle does on a real head: Dice against the reference labels, time and memory."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from nibabel.processing import resample_from_to
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from .segmenting import Inferer, load_weights, segment, without_loading


def read_dicom(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A single-frame MR series: (X, Y, Z) along columns, rows, slices, and its affine to RAS mm."""
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir()) if path.is_file()]
    rows, columns = np.split(np.array(slices[0].ImageOrientationPatient, dtype=np.float64), 2)
    normal = np.cross(rows, columns)
    slices.sort(key=lambda one: float(np.dot(normal, np.array(one.ImagePositionPatient, dtype=np.float64))))
    places = np.array([one.ImagePositionPatient for one in slices], dtype=np.float64)
    down, across = (float(value) for value in slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = rows * across, columns * down
    affine[:3, 2] = (places[-1] - places[0]) / (len(slices) - 1)
    affine[:3, 3] = places[0]
    volume = np.stack([one.pixel_array.T.astype(np.float32) for one in slices], axis=-1)
    return volume, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Twice the overlap by the sum of the sizes."""
    sizes = int(np.sum(found)) + int(np.sum(truth))
    return 2.0 * int(np.sum(found & truth)) / max(1, sizes)


def compare(labels: NDArray[np.uint8], affine: NDArray[np.float64], reference: Path) -> dict[str, float]:
    """Dice of the labels (X, Y, Z) on the grid of the reference, without the classes that are left out.

    CSF of the bundle holds the fluid around the brain as well, which the reference does not label; so
    `ventricles` compares CSF with the reference's ventricles only where these are at most 2 mm away.
    """
    stored = nib.load(str(reference))
    meaning = json.loads(reference.with_name(reference.name.replace(".nii.gz", ".json")).read_text("utf-8"))
    truth = np.asarray(stored.dataobj, dtype=np.uint8)
    moved = resample_from_to(nib.Nifti1Image(labels, affine), stored, order=0, cval=0)
    found = np.asarray(moved.dataobj, dtype=np.uint8)
    judged = ~np.isin(truth, meaning["leave_out_when_judging"])
    result = {
        name: round(dice((found == label) & judged, np.isin(truth, meaning[key]) & judged), 4)
        for name, label, key in (("grey_matter", 2, "gm"), ("white_matter", 3, "wm"))
    }
    ventricles = np.isin(truth, meaning["ventricles"])
    near = np.asarray(ndimage.binary_dilation(ventricles, iterations=2))
    result["ventricles"] = round(dice((found == 1) & near, ventricles), 4)
    return result


def evaluate(
    network: nn.Module,
    weights: str,
    preprocessing: Compose,
    inferer: Inferer,
    postprocessing: Compose,
    head: str,
    reference: str,
) -> dict[str, Any]:
    """Segment the DICOM head and compare with the reference, with its surroundings and without them."""
    volume, affine = read_dicom(Path(head))
    load_weights(network, weights)
    steps = without_loading(preprocessing), inferer, postprocessing
    started = time.monotonic()
    found = segment(network, *steps, MetaTensor(torch.from_numpy(volume), affine=torch.from_numpy(affine)))
    seconds = time.monotonic() - started
    labels = np.asarray(found["pred"][0], dtype=np.uint8)
    result: dict[str, Any] = {"with_skull": compare(labels, affine, Path(reference))}
    bare = np.where(_brain_of(Path(reference), volume.shape, affine), volume, 0.0).astype(np.float32)
    second = segment(network, *steps, MetaTensor(torch.from_numpy(bare), affine=torch.from_numpy(affine)))
    result["without_skull"] = compare(np.asarray(second["pred"][0], dtype=np.uint8), affine, Path(reference))
    result["confidence"] = round(found["confidence"], 4)
    result["kept_fraction"] = round(found["kept_fraction"], 4)
    result["seconds"] = round(seconds, 1)
    result["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return result


def _brain_of(reference: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The reference's brain, closed and 2 mm wider, on the grid of the head."""
    stored = nib.load(str(reference))
    brain = ndimage.binary_closing(np.asarray(stored.dataobj) > 0, iterations=4)
    wide = ndimage.binary_dilation(ndimage.binary_fill_holes(brain), iterations=2).astype(np.uint8)
    moved = resample_from_to(nib.Nifti1Image(wide, stored.affine), (shape, affine), order=0)
    return np.asarray(moved.dataobj) > 0
