"""A complete, very small pipeline: a MONAI bundle whose network says "bright" above a threshold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MANIFEST = """
[pipeline]
name = "toy"
version = "1.0.0"
title = "Bright tissue"
input = "volume"
time_limit_s = {time_limit_s}
memory_mb = {memory_mb}
weights = "models/model.safetensors"

[algorithm]
name = "Toy"
family = ["123110", "DCM", "Artificial Intelligence"]

[[require]]
when = 'series.modality == "MR"'
code = "NOT_MR"
reason = "The series is not MR."

[[segment]]
label = 1
name = "bright"
title = "Bright tissue"
category = ["85756007", "SCT", "Tissue"]
type = ["85756007", "SCT", "Tissue"]
color = [250, 120, 40]

[[measurement]]
segment = "bright"
quantity = "volume"
code = ["118565006", "SCT", "Volume"]
unit = ["ml", "UCUM", "milliliter"]
"""

NETWORK = '''"""The toy's network."""

import os
import time

import torch


class Threshold(torch.nn.Module):
    """Two channels: background and bright."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(1, 1, X, Y, Z) → (1, 2, X, Y, Z)."""
        {extra}
        bright = image - self.level
        return torch.cat([-bright, bright], dim=1)
'''


def write_toy_pipeline(
    folder: Path,
    level: float = 500.0,
    time_limit_s: float = 120,
    extra: str = "pass",
    memory_mb: int = 2000,
    version: str = "1.0.0",
) -> Path:
    """Write the pipeline `toy` into `folder`; `extra` is a line that its forward pass runs first.

    Another version than the first lies in a folder of its own.
    """
    toy = folder / ("toy" if version == "1.0.0" else f"toy-{version}")
    for sub in ("configs", "models", "scripts", "docs"):
        (toy / sub).mkdir(parents=True)
    manifest = MANIFEST.format(time_limit_s=time_limit_s, memory_mb=memory_mb)
    (toy / "pipeline.toml").write_text(manifest.replace('version = "1.0.0"', f'version = "{version}"'))
    (toy / "scripts" / "__init__.py").write_text('"""The toy\'s own code."""\n')
    (toy / "scripts" / "network.py").write_text(NETWORK.format(extra=extra))
    (toy / "docs" / "README.md").write_text("# Toy\n")
    save_file({"level": np.array([level], np.float32)}, str(toy / "models" / "model.safetensors"))
    (toy / "configs" / "metadata.json").write_text(json.dumps(_METADATA))
    (toy / "configs" / "inference.json").write_text(json.dumps(_INFERENCE))
    return toy


def in_windows(toy: Path) -> None:
    """Have the toy go through its input in sliding windows, four at a time."""
    inference = toy / "configs" / "inference.json"
    config = json.loads(inference.read_text())
    config["inferer"] = {"_target_": "SlidingWindowInferer", "roi_size": [4, 4, 4], "sw_batch_size": 4}
    inference.write_text(json.dumps(config))


_METADATA = {
    "version": "1.0.0",
    "monai_version": "1.5.2",
    "pytorch_version": "2.13.0",
    "numpy_version": "2.0.0",
    "task": "Bright tissue",
    "description": "Everything above a threshold",
    "authors": "dicomnode",
    "copyright": "dicomnode",
    "network_data_format": {"inputs": {}, "outputs": {}},
}
_INFERENCE = {
    "imports": ["$import torch"],
    "bundle_root": ".",
    "device": "cpu",
    "network_def": {"_target_": "scripts.network.Threshold"},
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": "no_channel"}],
    },
    "inferer": {"_target_": "SimpleInferer"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}],
    },
}

PRIOR = """
[[prior]]
name = "before"
when = 'prior.modality == series.modality && prior.description.matches("(?i)t1")'
within_days = 730
{more}
"""
_VALUE = """
[[value]]
name = "before_mean"

[[measurement]]
value = "before_mean"
quantity = "value"
code = ["before_mean", "99TOY", "Mean of the prior"]
unit = ["1", "UCUM", "no units"]
"""
_MEAN = '''"""What the toy makes of its prior."""


class MeanOfPrior:
    """Leaves the mean of `before` beside the label map; -1 where it is not there."""

    def __call__(self, data):
        """See MONAI's dictionary transforms."""
        before = data.get("before")
        return {**data, "before_mean": -1.0 if before is None else float(before.mean())}
'''


def with_prior(
    prior: str = PRIOR.format(more=""), preprocessing: Sequence[Mapping[str, object]] = ()
) -> Callable[[Path], None]:
    """Edits the toy so that it takes a prior, and leaves the mean of it as a value."""

    def edit(toy: Path) -> None:
        manifest = toy / "pipeline.toml"
        manifest.write_text(f"{manifest.read_text()}{prior}{_VALUE}")
        (toy / "scripts" / "prior.py").write_text(_MEAN)
        inference = toy / "configs" / "inference.json"
        config = json.loads(inference.read_text())
        config["postprocessing"]["transforms"].append({"_target_": "scripts.prior.MeanOfPrior"})
        if preprocessing:
            config["preprocessing"]["transforms"] = list(preprocessing)
        inference.write_text(json.dumps(config))

    return edit
