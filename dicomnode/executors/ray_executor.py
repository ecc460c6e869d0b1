"""Runs orders on a machine of a Ray cluster: an actor for each slot, placed by its share of a GPU and memory.

Ray places, watches and reports deaths. It retries nothing: attempts are rows.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import structlog

from dicomnode import __version__
from dicomnode.config import RaySection
from dicomnode.errors import DicomnodeError, RunCancelled, RunLost
from dicomnode.executors.ray_machine import environment_of
from dicomnode.executors.ray_place import Place
from dicomnode.services.running import Made, RunOrder

log = structlog.get_logger()

LOOK_S = 0.2
"""How often a wait for a run looks whether it was cancelled."""
PLACED_S = 1.0
"""How long is waited at a time for a place on the cluster."""
SEEK_S = 120.0
"""A place that was not found for so long is asked for anew: the cluster that was asked may be gone.

Then twice as long: what has begun to start may only be slow."""
ANSWER_S = 15.0
"""A place that is silent for this long, where it has little to do but answer, is given up."""


class RayExecutor:
    """One slot's place on the cluster, with its warm model; given up and sought anew when it is lost.

    `memory_mb`: what a place takes of its machine's memory. Use it from the main thread.
    """

    def __init__(self, settings: RaySection, memory_mb: float) -> None:
        self._settings, self._memory_mb = settings, memory_mb
        self._place: Any = None
        self._placing: Any = None
        self._sought_at, self._patience_s = 0.0, SEEK_S
        self._why_not = ""
        os.environ.update(environment_of(settings, {}))
        os.environ.pop("RAY_AUTH_TOKEN", None)

    def ready(self) -> bool:
        """True where the slot has a place that answers; else the next call goes on with seeking one."""
        from ray.exceptions import RayError

        try:
            self._connect()
            if self._place is None:
                self._seek()
            wanting = self._wanting()
            self._note(wanting)
            return not wanting
        # Ray raises builtin ones where it cannot connect.
        except (RayError, OSError, RuntimeError, ValueError) as error:
            self._note(_told(error))
            self._leave()
            return False

    def run(self, order: RunOrder, cancelled: Callable[[], bool]) -> Made:
        """As `Executor` says. Raises RunLost where the place went away meanwhile."""
        import ray
        from ray.exceptions import RayError

        key = uuid4().hex
        try:
            running = self._place.run.remote(key, order)
            self._await(key, running, cancelled)
            answer: Made | DicomnodeError = ray.get(running)
        except RayError as error:
            log.warning("ray.run_lost", error=type(error).__name__)
            self._give_up()
            raise RunLost from None
        if isinstance(answer, DicomnodeError):
            raise answer
        return answer

    def close(self) -> None:
        """Give the place back, and leave the cluster."""
        import ray
        from ray.exceptions import RayError

        if self._place is not None and self._placing is None:
            with suppress(RayError):
                ray.get(self._place.close.remote(), timeout=ANSWER_S)
        self._leave()

    def _note(self, why_not: str) -> None:
        """Log what holds the slot up once, not with each look."""
        if why_not and why_not != self._why_not:
            log.warning("ray.not_ready", why=why_not)
        self._why_not = why_not

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():
            return
        host, _, port = self._settings.address.rpartition(":")
        # Asked first: Ray itself would wait long for a machine that is not there.
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1.0):
            pass
        stop = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            ray.init(
                address=self._settings.address,
                _node_ip_address=str(self._settings.own_address),
                log_to_driver=False,
                configure_logging=False,
            )
        finally:
            # Ray takes SIGTERM for itself; here it is an orderly end.
            for number, handler in stop.items():
                signal.signal(number, handler)
        log.info("ray.connected", address=self._settings.address)

    def _seek(self) -> None:
        import ray

        actor: Any = ray.remote(Place)
        self._place = actor.options(
            num_cpus=self._settings.slot_cpus,
            num_gpus=self._settings.slot_gpus,
            memory=int(self._memory_mb * 1_000_000),
            scheduling_strategy="SPREAD",
            max_restarts=0,
            max_task_retries=0,
        ).remote()
        self._placing = self._place.version.remote()
        self._sought_at = time.monotonic()

    def _wanting(self) -> str:
        """What keeps the place from taking an order; "" where nothing does."""
        import ray

        if self._placing is None:
            can = ray.get(self._place.ready.remote(), timeout=ANSWER_S)
            return "" if can else "the object store is away"
        if not ray.wait([self._placing], timeout=PLACED_S)[0]:
            if time.monotonic() - self._sought_at > self._patience_s:
                self._patience_s *= 2
                self._leave()
            return "no place is free"
        version = ray.get(self._placing)
        if version != __version__:
            self._give_up()
            return f"dicomnode {version} is there, and {__version__} here"
        self._placing, self._patience_s = None, SEEK_S
        log.info("ray.placed")
        return ""

    def _await(self, key: str, running: Any, cancelled: Callable[[], bool]) -> None:
        """Return when the run is over. Raises RunCancelled where it does not end after it was cut."""
        import ray

        cut_at: float | None = None
        while not ray.wait([running], timeout=LOOK_S)[0]:
            if cut_at is None and cancelled():
                self._place.cut.remote(key)
                cut_at = time.monotonic()
            elif cut_at is not None and time.monotonic() - cut_at > ANSWER_S:
                self._give_up()
                raise RunCancelled("the run was cut, and its machine did not answer")

    def _leave(self) -> None:
        """Let go of the cluster: it may be another one, at the same address, when it is there again."""
        import ray

        self._give_up()
        ray.shutdown()

    def _give_up(self) -> None:
        import ray
        from ray.exceptions import RayError

        place, self._place, self._placing = self._place, None, None
        if place is not None and ray.is_initialized():
            with suppress(RayError, RuntimeError, ValueError):
                ray.kill(place)


def _told(error: Exception) -> str:
    """What an administrator needs to know; of a place that could not begin, Ray's last line says why."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1].strip()[:200]}"
