"""A MONAI bundle, loaded once and run many times. Only a child process imports this module."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage, LoadImaged, SaveImage, SaveImaged
from numpy.typing import NDArray
from safetensors.torch import load_file

from dicomnode.imaging.volume import Volume, from_xyz, to_ras_xyz
from dicomnode.model.manifest import Manifest
from dicomnode.pipeline.registry import INFERENCE

_FILES = (LoadImage, LoadImaged, SaveImage, SaveImaged)


@dataclass(frozen=True, slots=True)
class Answer:
    """`labels`: uint8 (slices, rows, columns); `values` as declared; `timings` in seconds by stage."""

    labels: NDArray[np.uint8]
    values: Mapping[str, float]
    timings: Mapping[str, float]


class Bundle:
    """A warm bundle. Raises whatever the bundle's own code raises."""

    def __init__(self, folder: Path, manifest: Manifest, device: str, scratch: Path) -> None:
        self.device = _device(device)
        self._values = tuple(value.name for value in manifest.value)
        # Compiled files beside the scripts are not in the digest: they are neither read nor written.
        sys.pycache_prefix = str(scratch / "pycache")
        sys.path.insert(0, str(folder))
        parser = ConfigParser()
        parser.read_config(str(folder / INFERENCE))
        parser["bundle_root"] = str(folder)
        parser["device"] = f"$torch.device('{self.device}')"
        self._network = parser.get_parsed_content("network_def")
        weights = load_file(str(folder / manifest.pipeline.weights))
        self._network.load_state_dict(
            {name: _single(tensor) for name, tensor in weights.items()}, strict=True
        )
        self._network.to(self.device).eval()
        self._preprocessing = _in_memory(parser.get_parsed_content("preprocessing"))
        self._postprocessing = _in_memory(parser.get_parsed_content("postprocessing"))
        self._inferer = parser.get_parsed_content("inferer")

    def run(self, volume: Volume, on_stage: Callable[[str], None]) -> Answer:
        """Label one volume. Raises ValueError where the answer is no label map on the volume's grid."""
        timings: dict[str, float] = {}
        with torch.inference_mode():
            data = self._timed(timings, on_stage, "preprocess", lambda: self._prepare(volume))
            data["pred"] = self._timed(timings, on_stage, "forward", lambda: self._forward(data["image"]))
            data = self._timed(timings, on_stage, "postprocess", lambda: self._postprocessing(data))
        return Answer(_labels(data["pred"], volume), _scalars(data, self._values), timings)

    def _prepare(self, volume: Volume) -> dict[str, Any]:
        array, affine = to_ras_xyz(volume.array, volume.geometry)
        place = torch.as_tensor(affine)
        meta = {"original_channel_dim": "no_channel", "original_affine": place, "space": "RAS"}
        image = MetaTensor(torch.from_numpy(np.ascontiguousarray(array)), affine=place, meta=meta)
        prepared: dict[str, Any] = self._preprocessing({"image": image})
        return prepared

    def _forward(self, image: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self._inferer(image[None].to(self.device), self._network)[0]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return answer

    @staticmethod
    def _timed(
        timings: dict[str, float], on_stage: Callable[[str], None], stage: str, work: Callable[[], Any]
    ) -> Any:
        on_stage(stage)
        started = time.monotonic()
        done = work()
        timings[stage] = time.monotonic() - started
        return done


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _in_memory(transforms: Any) -> Compose:
    """The same transforms without those that read or write files."""
    return Compose([step for step in transforms.transforms if not isinstance(step, _FILES)])


def _labels(answer: Any, volume: Volume) -> NDArray[np.uint8]:
    pred = answer.as_tensor() if isinstance(answer, MetaTensor) else torch.as_tensor(answer)
    pred = pred.detach().cpu()
    if pred.ndim == 4 and pred.shape[0] == 1:
        pred = pred[0]
    if tuple(pred.shape) != volume.geometry.shape[::-1]:
        raise ValueError("pred is not on the grid of the input")
    if pred.is_floating_point() and not bool((pred == pred.round()).all()):
        raise ValueError("pred holds no whole numbers")
    if int(pred.min()) < 0 or int(pred.max()) > 255:
        raise ValueError("pred holds no labels from 0 to 255")
    return np.ascontiguousarray(from_xyz(pred.to(torch.uint8).numpy(), volume.geometry))


def _scalars(data: Mapping[Any, Any], names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(data[name]) for name in names}
