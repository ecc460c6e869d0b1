"""Makes room: what is over, and proven elsewhere, leaves when it is old or when there is too much."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from dicomnode.config import RetentionSection
from dicomnode.store import retention
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

GB = 1_000_000_000
DiskUsage = Callable[[Path], tuple[int, int]]
"""From a folder to the size of its disk and what of it is used, in bytes."""


def disk_usage(folder: Path) -> tuple[int, int]:
    """What is free for nobody but root counts as used."""
    usage = shutil.disk_usage(folder)
    return usage.total, usage.total - usage.free


class RetentionService:
    """Lets go of the oldest first, and of nothing that somebody may still need.

    `unconfirmable` are the destinations with `confirm = "none"`.
    """

    def __init__(
        self,
        database: Database,
        objects: Objects,
        settings: RetentionSection,
        unconfirmable: Collection[str],
        disk: DiskUsage = disk_usage,
    ) -> None:
        self._database, self._objects, self._settings = database, objects, settings
        self._terms, self._disk = retention.Terms(unconfirmable, settings.unused), disk

    def tick(self) -> int:
        """Let go of what is too old or too much; returns 0, for there is no hurry."""
        self._remove_released()
        released = self._release_old() + self._release_for_room()
        if released:
            self._remove_released()
            log.info("retention.released", bytes=released)
        return 0

    def _release_old(self) -> int:
        if not self._settings.age_days:
            return 0
        return self._release(max(self._settings.age_days * 86_400, self._youngest_s), math.inf)

    def _release_for_room(self) -> int:
        needed = self._too_much()
        total = self._release(self._youngest_s, needed)
        if total < needed:
            log.warning("retention.nothing_left", needed=needed - total)
        return total

    @property
    def _youngest_s(self) -> float:
        return self._settings.minimum_age_h * 3600

    def _too_much(self) -> int:
        """Bytes over the quota, or over the disk's low mark once its high mark is reached."""
        with self._database.read() as tx:
            kept = retention.kept_bytes(tx) if self._settings.quota_gb else 0
            leaving = retention.leaving_bytes(tx)
        over_disk = self._over_disk(leaving) if self._objects.is_local else 0
        over_quota = int(kept - self._settings.quota_gb * GB) if self._settings.quota_gb else 0
        return max(0, over_disk, over_quota)

    def _over_disk(self, leaving: int) -> int:
        size, used = self._disk(self._objects.folder)
        if used - leaving <= size * self._settings.disk_high_percent / 100:
            return 0
        return int(used - leaving - size * self._settings.disk_low_percent / 100)

    def _release(self, older_than_s: float, needed: float) -> int:
        """Let go of at least `needed` bytes, if there are as many; returns how many they were.

        The search keeps no writer waiting; what changes meanwhile, the removal's second look sees.
        """
        total = 0
        while total < needed:
            with self._database.read() as tx:
                candidates = retention.oldest(tx, self._terms, older_than_s)
            if not candidates:
                break
            for candidate in candidates:
                if total < needed:
                    with self._database.begin() as tx:
                        total += retention.release(tx, candidate)
        return total

    def _remove_released(self) -> None:
        with self._database.read() as tx:
            candidates = retention.leaving(tx)
        for candidate in candidates:
            with self._database.begin() as tx:
                retention.remove(tx, candidate, self._terms, self._take_away)

    def _take_away(self, sha256: str) -> bool:
        """What somebody has written of late may belong to a transaction that has not ended."""
        if not self._objects.is_old(sha256):
            return not self._objects.has(sha256)
        self._objects.remove(sha256)
        return True
