"""Where each slot of this machine runs its jobs: which device, and how much memory there is."""

from __future__ import annotations

from dicomnode.config import Config, DeviceEntry
from dicomnode.errors import ConfigError
from dicomnode.model.room import CPU, UNLIMITED_MB, Room, Slot
from dicomnode.pipeline.cuda import gpu_memory_mb
from dicomnode.pipeline.memory import total_mb
from dicomnode.roles.watching import machine_name, worker_name


def slot_of(config: Config, process: str, number: int) -> tuple[Slot, str]:
    """Slot `number`, from 1 on, and what torch calls its device. Raises ConfigError where it is not there."""
    places = config.workers.places
    entry = places[(number - 1) % len(places)]
    names = {each: _name(each) for each in places}
    device = names[entry]
    alone = set(names.values()) == {CPU}
    room = Room(
        host_mb=config.workers.memory_mb or total_mb(),
        device_mb=(UNLIMITED_MB if alone else 0) if device == CPU else _memory_mb(config, entry, device),
    )
    beside = tuple(sorted(set(names.values())))
    return Slot(worker_name(config, process), machine_name(config), device, room, beside), entry.of_torch


def _name(entry: DeviceEntry) -> str:
    """One name for each device, however it is written."""
    if entry.torch:
        return entry.name
    if entry.name == "auto":
        return "cuda:0" if gpu_memory_mb() else CPU
    return "cuda:0" if entry.name == "cuda" else entry.name


def _memory_mb(config: Config, entry: DeviceEntry, device: str) -> int:
    if entry.memory_mb:
        return entry.memory_mb
    there, ordinal = gpu_memory_mb(), int(device.partition(":")[2])
    if ordinal >= len(there):
        raise ConfigError(config.file, [f"workers: there is no {device} on this machine"])
    return there[ordinal]
