"""Memory as values: what a job needs, what a slot's machine and device have, and who makes room for whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

CPU = "cpu"
"""What the device of a slot is called that has no other memory than its machine's."""
UNLIMITED_MB = 1_000_000_000
"""The device memory of a slot on the CPU, where there is no GPU: jobs that would use one run there, too."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory of a machine, and of one of its devices, in MB (10⁶ bytes)."""

    host_mb: int
    device_mb: int

    def holds(self, needs: Room) -> bool:
        """True where `needs` fits into this."""
        return needs.host_mb <= self.host_mb and needs.device_mb <= self.device_mb

    def __add__(self, other: Room) -> Room:
        return Room(self.host_mb + other.host_mb, self.device_mb + other.device_mb)

    def __sub__(self, other: Room) -> Room:
        return Room(self.host_mb - other.host_mb, self.device_mb - other.device_mb)


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory that a run held, in MB; None of a device where it was not measured."""

    host_mb: int
    device_mb: int | None


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one worker runs its jobs; `room` is all that its machine and its device have.

    `beside`: the names of all devices that its machine is configured with.
    """

    worker: str
    host: str
    device: str
    room: Room
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    """A worker that holds memory, for the job that it runs or for a model that it keeps warm.

    `since`: when it was used last. `leaving`: it was asked to give its room back, and will.
    """

    worker: str
    device: str
    held: Room
    since: datetime | None
    leaving: bool

    def on(self, device: str) -> Room:
        """What it holds, as a slot on `device` sees it."""
        return self.held if self.device == device else Room(self.held.host_mb, 0)


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device of a machine: its memory, and what is held of it; of the CPU, the machine's."""

    host: str
    name: str
    memory_mb: int
    held_mb: int

    @property
    def free_mb(self) -> int:
        """What nobody holds."""
        return max(0, self.memory_mb - self.held_mb)


def free_room(slot: Slot, others: Iterable[Tenant]) -> Room:
    """What a slot may use beside what the others of its machine hold."""
    return sum((Room(0, 0) - each.on(slot.device) for each in others), slot.room)


def to_ask(needs: Room, free: Room, device: str, idle: Sequence[Tenant]) -> list[str]:
    """Who has to give back a warm model for `needs` on `device`; the one that was used longest ago first.

    Nobody where that would not be enough, or where those who are leaving already are.
    """
    for each in idle:
        if each.leaving:
            free += each.on(device)
    asked: list[str] = []
    for each in sorted(idle, key=lambda tenant: (tenant.since is not None, tenant.since, tenant.worker)):
        if free.holds(needs):
            return asked
        gain, short = each.on(device), needs - free
        if not each.leaving and (
            (short.host_mb > 0 < gain.host_mb) or (short.device_mb > 0 < gain.device_mb)
        ):
            asked.append(each.worker)
            free += gain
    return asked if free.holds(needs) else []
