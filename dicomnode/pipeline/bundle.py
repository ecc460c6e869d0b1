"""A MONAI bundle, loaded once and run many times. Only a child process imports this module."""

from __future__ import annotations

import math
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

from dicomnode.imaging.findings import MarkFound
from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.volume import Volume, from_xyz, to_ras_xyz
from dicomnode.model.manifest import Manifest
from dicomnode.pipeline.contract import PRED, AnswerError, Problem
from dicomnode.pipeline.registry import INFERENCE

WINDOWS = "sw_batch_size"
"""What MONAI's sliding-window inferers call the number of windows that go through the network at once."""
CONTEXT_MB = 600
"""What CUDA itself takes of a GPU for each process, which torch does not count."""
_FILES = (LoadImage, LoadImaged, SaveImage, SaveImaged)


@dataclass(frozen=True, slots=True)
class Answer:
    """`labels`: uint8 (slices, rows, columns); `timings` in seconds by stage; the rest as declared, as
    `imaging.findings.Findings` has it."""

    labels: NDArray[np.uint8]
    values: Mapping[str, float]
    timings: Mapping[str, float]
    maps: Mapping[str, NDArray[np.float32]]
    marks: tuple[MarkFound, ...]
    answers: Mapping[str, str]


class Bundle:
    """A warm bundle. Raises whatever the bundle's own code raises."""

    def __init__(self, folder: Path, manifest: Manifest, device: str, scratch: Path) -> None:
        self.device = _device(device)
        self._manifest = manifest
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
        self._windows = getattr(self._inferer, WINDOWS, None)

    def spare_memory(self, *, frugal: bool) -> None:
        """From the next run on: one sliding window at a time, or as many as the bundle asks for."""
        if self._windows is not None:
            setattr(self._inferer, WINDOWS, 1 if frugal else self._windows)

    @property
    def gpu_memory_mb(self) -> int | None:
        """The most that this process held of its GPU so far, in MB (10⁶ bytes); None where it has none."""
        if self.device.type != "cuda":
            return None
        return CONTEXT_MB + math.ceil(torch.cuda.max_memory_reserved(self.device) / 1_000_000)

    def run(self, volume: Volume, priors: Mapping[str, Volume], on_stage: Callable[[str], None]) -> Answer:
        """Run over one volume, with priors beside it under their names.

        Raises AnswerError where what it leaves is not what the manifest declares.
        """
        timings: dict[str, float] = {}
        with torch.inference_mode():
            data = self._timed(timings, on_stage, "preprocess", lambda: self._prepare(volume, priors))
            data["pred"] = self._timed(timings, on_stage, "forward", lambda: self._forward(data["image"]))
            data = self._timed(timings, on_stage, "postprocess", lambda: self._postprocessing(data))
        declared, geometry = self._manifest, volume.geometry
        return Answer(
            labels=_labels(_left(data, PRED), geometry)
            if declared.segment
            else np.zeros(geometry.shape, np.uint8),
            values={value.name: _number(value.name, _left(data, value.name)) for value in declared.value},
            timings=timings,
            maps={each.name: _map(each.name, _left(data, each.name), geometry) for each in declared.map},
            marks=tuple(
                _mark(mark.name, found) for mark in declared.mark for found in _each(_left(data, mark.name))
            ),
            answers={question.name: str(_left(data, question.name)) for question in declared.question},
        )

    def _prepare(self, volume: Volume, priors: Mapping[str, Volume]) -> dict[str, Any]:
        given = {"image": _image(volume), **{key: _image(prior) for key, prior in priors.items()}}
        prepared: dict[str, Any] = self._preprocessing(given)
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


def _image(volume: Volume) -> MetaTensor:
    """A volume as a bundle takes it: (X, Y, Z) with its place in RAS, mm."""
    array, affine = to_ras_xyz(volume.array, volume.geometry)
    place = torch.as_tensor(affine)
    meta = {"original_channel_dim": "no_channel", "original_affine": place, "space": "RAS"}
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(array)), affine=place, meta=meta)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _in_memory(transforms: Any) -> Compose:
    """The same transforms without those that read or write files."""
    return Compose([step for step in transforms.transforms if not isinstance(step, _FILES)])


def _left(data: Mapping[str, Any], name: str) -> Any:
    if data.get(name) is None:
        raise AnswerError(name, "absent")
    return data[name]


def _number(name: str, found: Any, problem: Problem = "no_number") -> float:
    try:
        number = float(found)
    except (TypeError, ValueError, RuntimeError):
        raise AnswerError(name, problem) from None
    if not math.isfinite(number):
        raise AnswerError(name, problem)
    return number


def _labels(answer: Any, geometry: Geometry) -> NDArray[np.uint8]:
    pred = _on_grid(PRED, answer, geometry)
    if pred.is_floating_point() and not bool((pred == pred.round()).all()):
        raise AnswerError(PRED, "fractions")
    if int(pred.min()) < 0 or int(pred.max()) > 255:
        raise AnswerError(PRED, "no_labels")
    return np.ascontiguousarray(from_xyz(pred.to(torch.uint8).numpy(), geometry))


def _map(name: str, answer: Any, geometry: Geometry) -> NDArray[np.float32]:
    values = _on_grid(name, answer, geometry).to(torch.float32).numpy()
    return np.ascontiguousarray(from_xyz(values, geometry))


def _on_grid(name: str, answer: Any, geometry: Geometry) -> torch.Tensor:
    """The answer as a tensor (X, Y, Z), with or without a channel before these."""
    tensor = answer.as_tensor() if isinstance(answer, MetaTensor) else torch.as_tensor(answer)
    tensor = tensor.detach().cpu()
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tuple(tensor.shape) != geometry.shape[::-1]:
        raise AnswerError(name, "off_grid")
    return tensor


def _each(found: Any) -> list[Any]:
    return list(found.detach().cpu().numpy() if isinstance(found, torch.Tensor) else found)


def _mark(name: str, found: Any) -> MarkFound:
    """A mark is one point (X, Y, Z), a list of points, or both as `points` beside a `probability`."""
    told = found if isinstance(found, Mapping) else {"points": found}
    try:
        points = np.atleast_2d(np.array(_each(told["points"]), np.float64))
    except (KeyError, TypeError, ValueError):
        raise AnswerError(name, "no_points") from None
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise AnswerError(name, "no_points")
    if (probability := told.get("probability")) is not None:
        probability = _number(name, probability, "no_probability")
        if not 0 <= probability <= 1:
            raise AnswerError(name, "no_probability")
    return MarkFound(name, points[:, ::-1].copy(), probability)
