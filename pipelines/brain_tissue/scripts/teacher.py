"""The published MeshNet (brainchop, 18 classes, MIT) that labels real heads for the training.

Its weights are no part of this bundle: the training configuration is told where they lie.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.processing import conform, resample_from_to
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

WHITE_MATTER = (1, 5, 13, 17)
"""Cerebral and cerebellar white matter, brain stem, ventral diencephalon."""
GREY_MATTER = (2, 6, 7, 8, 9, 10, 14, 15, 16)
"""Cerebral and cerebellar cortex, thalamus, caudate, putamen, pallidum, hippocampus, amygdala, accumbens."""
VENTRICLES = (3, 4, 11, 12)
"""Lateral and inferior lateral, third and fourth ventricle."""


def load_meshnet(weights: Path) -> nn.Sequential:
    """The MeshNet described in the file's own metadata, with its weights, in evaluation mode."""
    with safe_open(str(weights), framework="pt") as stored:
        config = json.loads(stored.metadata()["config"])
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    if config["activation"] != "elu" or config["instance_norm"] or config["normalization"] != "minmax":
        raise ValueError(f"{weights.name} is not the kind of MeshNet that this training knows")
    layers: list[nn.Module] = []
    channels = 1
    for index, layer in enumerate(config["layers"]):
        kernel, dilation = layer["kernel"], layer["dilation"]
        padding = dilation if kernel > 1 else 0
        convolution = nn.Conv3d(channels, layer["filters"], kernel, padding=padding, dilation=dilation)
        convolution.load_state_dict(
            {"weight": tensors[f"convs.{index}.weight"], "bias": tensors[f"convs.{index}.bias"]}
        )
        layers += [convolution, nn.ELU(inplace=True)]
        channels = layer["filters"]
    return nn.Sequential(*layers[:-1]).eval()


def _to_bytes(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intensities to 0..255 as FreeSurfer does: the top 0.1 % of the non-zero voxels are clipped."""
    top = float(np.quantile(volume[volume > 0], 0.999))
    return np.clip(np.round(volume * (255.0 / top)), 0, 255).astype(np.float32)


def _head_box(volume: NDArray[np.float32], threshold: float) -> tuple[slice, slice, slice]:
    """The smallest box around the voxels above the threshold."""
    spans = [np.flatnonzero((volume > threshold).any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    first, second, third = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return first, second, third


@torch.inference_mode()
def label_head(image: nib.Nifti1Image, weights: Path) -> NDArray[np.uint8]:
    """The teacher's 18 classes of a T1 head with its skull, on the image's own grid (X, Y, Z)."""
    conformed = conform(
        image, out_shape=(256, 256, 256), voxel_size=(1.0, 1.0, 1.0), orientation="LIA", order=1
    )
    volume = _to_bytes(np.asarray(conformed.dataobj, dtype=np.float32)) / 255.0
    box = _head_box(volume, 0.2)
    crop: Tensor = torch.from_numpy(np.ascontiguousarray(volume[box]))[None, None]
    found = load_meshnet(weights)(crop).argmax(dim=1)[0].numpy().astype(np.uint8)
    labels = np.zeros(volume.shape, np.uint8)
    labels[box] = found
    back = resample_from_to(nib.Nifti1Image(labels, conformed.affine), image, order=0)
    return np.asarray(back.dataobj, dtype=np.uint8)
