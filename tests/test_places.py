"""Each slot has its device and its memory, as config.toml says or as the machine has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.config import load_config
from dicomnode.errors import ConfigError
from dicomnode.model.room import UNLIMITED_MB, Room
from dicomnode.pipeline.cuda import gpu_memory_mb
from dicomnode.pipeline.memory import total_mb
from dicomnode.roles.places import slot_of


def places(tmp_path: Path, text: str) -> list[tuple[str, Room, str]]:
    """Device, memory and torch's name of each slot."""
    file = tmp_path / "site.toml"
    file.write_text(text)
    config = load_config(file, {})
    numbers = range(1, len(config.workers.places) + 1)
    slots = [slot_of(config, f"worker-{number}", number) for number in numbers]
    return [(slot.device, slot.room, torch) for slot, torch in slots]


def test_the_simple_settings_give_slots_that_share_what_the_machine_has(tmp_path):
    (first, second) = places(tmp_path, '[workers]\nslots = 2\ndevice = "cpu"\n')
    assert first == second == ("cpu", Room(total_mb(), UNLIMITED_MB), "cpu")


def test_pretended_gpus_have_the_memory_that_is_declared_and_jobs_for_them_leave_the_cpu_alone(tmp_path):
    text = (
        "[workers]\nmemory_mb = 9000\ndevices = [\n"
        '{name = "gpu:0", torch = "cpu", memory_mb = 4000, slots = 2},\n{name = "cpu"}]\n'
    )
    gpu = ("gpu:0", Room(9000, 4000), "cpu")
    assert places(tmp_path, text) == [gpu, gpu, ("cpu", Room(9000, 0), "cpu")]


def test_a_gpu_that_is_not_there_stops_the_start_and_one_that_is_says_its_memory(tmp_path):
    number = len(gpu_memory_mb())
    with pytest.raises(ConfigError, match=rf"site\.toml: workers: there is no cuda:{number} on this machine"):
        places(tmp_path, f'[workers]\ndevice = "cuda:{number}"\n')
    devices = [device for device, _, _ in places(tmp_path, "")]
    assert devices == (["cuda:0"] if number else ["cpu"])
