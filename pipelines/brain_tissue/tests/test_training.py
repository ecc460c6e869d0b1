"""The training's own code: examples repeat, two steps run, a checkpoint is taken up again."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def source():
    """A ball of white matter in grey matter in fluid, in a shell of scalp: 48 mm each way."""
    from scripts.sources import PART_CSF, Source

    span = torch.arange(48) - 23.5
    far = torch.sqrt(span[:, None, None] ** 2 + span[None, :, None] ** 2 + span[None, None, :] ** 2)
    labels = (far < 16).to(torch.uint8) + (far < 14).to(torch.uint8) + (far < 9).to(torch.uint8)
    parts = torch.tensor([0, PART_CSF, 2, 1], dtype=torch.uint8)[labels.long()]
    parts[(far > 18) & (far < 21)] = PART_CSF + 5
    image = torch.tensor([0.0, 0.3, 0.7, 1.0])[labels.long()] + 0.9 * ((far > 18) & (far < 21))
    return Source("ball", image, labels, parts, (far - 16).clamp(0, 30))


@pytest.fixture
def settings():
    recipe = {"synthetic": 0.5, "stripped": 0.5}
    return {
        "seed": 3,
        "stages": [
            {"until": 2, "side": 16, "horizon": 3},
            {"until": 3, "side": 24, "horizon": 3, "recipe": {"clutter": 1.0}},
        ],
        "batch": 2,
        "workers": 0,
        "threads": 2,
        "every": 2,
        "peak_rate": 0.001,
        "weight_decay": 0.0,
        "mean_decay": 0.9,
        "recipe": recipe,
    }


def test_examples_repeat_with_their_seed(source):
    from scripts.synthesis import Recipe, make_example

    first, second, other = (make_example([source], Recipe(), seed, 24) for seed in (5, 5, 6))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (1, 24, 24, 24)
    assert 0.0 <= float(first[0].min()) <= float(first[0].max()) <= 1.5


def test_training_runs_and_goes_on_from_its_checkpoint(source, settings, tmp_path):
    from safetensors.torch import load_file
    from scripts.network import TissueNet
    from scripts.training import train

    torch.manual_seed(1)
    network = TissueNet(filters=8)
    before = network.body.convInit.conv.weight.detach().clone()
    done = train(network, [source], settings, str(tmp_path))
    assert done["steps"] == 3
    assert np.isfinite(done["loss"])
    assert not torch.equal(before, network.body.convInit.conv.weight)
    weights = load_file(str(tmp_path / "model.safetensors"))
    TissueNet(filters=8).load_state_dict(weights, strict=True)
    settings["stages"][1]["until"] = 4
    assert train(TissueNet(filters=8), [source], settings, str(tmp_path))["steps"] == 4
    assert len((tmp_path / "log.jsonl").read_text("utf-8").splitlines()) == 3


def test_network_loses_no_voxel():
    from scripts.network import depth_to_space, space_to_depth

    volume = torch.randn(2, 3, 8, 6, 4)
    assert torch.equal(depth_to_space(space_to_depth(volume)), volume)
