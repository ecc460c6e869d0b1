"""The network alone: `bare_forward.py SERIES [DEVICE [PASSES]]` prints the median seconds of its passes."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged
from safetensors.torch import load_file

from dicomnode.imaging.volume import read_volume, to_ras_xyz

BUNDLE = Path(__file__).parents[1] / "pipelines" / "brain_tissue"


def main(series: Path, device: str = "cpu", passes: str = "3") -> None:
    """Decode and preprocess once, then time the inferer."""
    sys.path.insert(0, str(BUNDLE))
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / "inference.json")
    parser.update({"bundle_root": str(BUNDLE), "device": device})
    network = parser.get_parsed_content("network_def").eval()
    weights = load_file(str(BUNDLE / "models" / "model.safetensors"))
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    volume = read_volume(sorted(series.iterdir()))
    array, affine = to_ras_xyz(volume.array, volume.geometry)
    image = MetaTensor(torch.from_numpy(array.copy()), affine=torch.from_numpy(affine))
    preprocessing = parser.get_parsed_content("preprocessing").transforms
    in_memory = Compose([each for each in preprocessing if not isinstance(each, LoadImaged)])
    image = in_memory({"image": image})["image"][None].to(device)
    network.to(device)
    inferer = parser.get_parsed_content("inferer")
    seconds = []
    with torch.inference_mode():
        if device != "cpu":
            inferer(image, network)
        for _ in range(int(passes)):
            _wait_for(device)
            started = time.perf_counter()
            inferer(image, network)
            _wait_for(device)
            seconds.append(time.perf_counter() - started)
    print(statistics.median(seconds))


def _wait_for(device: str) -> None:
    """Until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
