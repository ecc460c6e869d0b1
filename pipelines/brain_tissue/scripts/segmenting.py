"""Running the bundle without a node: one volume in, its labels out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged
from safetensors.torch import load_file
from torch import nn

Inferer = Callable[..., Any]


def load_weights(network: nn.Module, weights: str) -> nn.Module:
    """The network with these weights, every one of them, in evaluation mode."""
    network.load_state_dict(load_file(weights), strict=True)
    return network.eval()


def without_loading(transforms: Compose) -> Compose:
    """The same transforms for a volume that is in memory already."""
    return Compose([step for step in transforms.transforms if not isinstance(step, LoadImaged)])


@torch.inference_mode()
def segment(
    network: nn.Module,
    preprocessing: Compose,
    inferer: Inferer,
    postprocessing: Compose,
    image: MetaTensor | str,
) -> dict[str, Any]:
    """Labels and values of one volume: a path, or a MetaTensor (X, Y, Z) with its affine in RAS mm."""
    data: Any = preprocessing({"image": image})
    data["pred"] = inferer(data["image"][None], network)[0]
    found: dict[str, Any] = postprocessing(data)
    return found


def segment_file(
    network: nn.Module,
    weights: str,
    device: torch.device,
    preprocessing: Compose,
    inferer: Inferer,
    postprocessing: Compose,
    source: str,
    target: str,
) -> dict[str, float]:
    """Segment the NIfTI file `source` into the label file `target`; what the bundle says of the result."""
    if not source or not target:
        raise ValueError("say --input T1.nii.gz --output labels.nii.gz")
    load_weights(network, weights).to(device)
    found = segment(network, preprocessing, inferer, postprocessing, source)
    labels = np.asarray(found["pred"][0], dtype=np.uint8)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, nib.load(source).affine), target)
    return {name: value for name, value in found.items() if isinstance(value, float)}
