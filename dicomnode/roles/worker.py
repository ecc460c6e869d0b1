"""One slot: runs jobs, one after the other."""

from __future__ import annotations

import threading
import time

import structlog

from dicomnode.config import Config
from dicomnode.errors import DiskFailed, StoreError
from dicomnode.installation import Stores, open_registry
from dicomnode.model.room import Slot
from dicomnode.model.topic import Topic
from dicomnode.roles.places import slot_of
from dicomnode.roles.watching import LOOK_S, worker_name
from dicomnode.services.attendance import working
from dicomnode.services.execution import Worker
from dicomnode.services.placement import declare_needs
from dicomnode.services.repeating import Pace
from dicomnode.services.running import LocalExecutor
from dicomnode.services.scratch import scratch_folder
from dicomnode.services.tenancy import Tenancy
from dicomnode.services.waking import Bell, Waking

log = structlog.get_logger()


def run_worker(config: Config, stores: Stores, name: str, number: int, stop: threading.Event) -> int:
    """One slot. After a stop the run in hand has most of the limit to end; then it is handed back."""
    waking = Waking(stores.database, stop)
    bell, pace = waking.bell(Topic.JOB, Topic.ROOM), Pace(LOOK_S)
    slot, worker = _slot(config, stores, name, number, waking.bell(Topic.LEASE))
    cut = threading.Event()
    threading.Thread(target=_cut_after, args=(stop, cut, config.node.stop_limit_s * 0.6), daemon=True).start()
    with waking, working(stores.database, worker_name(config, name), slot):
        try:
            while not stop.is_set():
                if bell.wait(pace.rest_s(busy=_took_a_job(worker, cut))):
                    pace.again()
        finally:
            worker.close()
    return 0


def _slot(
    config: Config, stores: Stores, name: str, number: int, taken_away: Bell
) -> tuple[Slot | None, Worker]:
    """Who works, and its share of this machine's memory; none where the runs are elsewhere."""
    own_name = worker_name(config, name)
    if config.workers.executor == "ray":
        # Imported here: who does not use a cluster need not have Ray.
        from dicomnode.executors.ray_executor import RayExecutor

        executor = RayExecutor(config.ray, _place_mb(config))
        return None, Worker(stores.database, executor, config, own_name, taken_away)
    slot, device = slot_of(config, name, number)
    registry, scratch = open_registry(config), scratch_folder(config.node.data, own_name)
    local = LocalExecutor(stores.objects, registry, config.workers, scratch, device)
    with stores.database.begin() as tx:
        declare_needs(tx, registry.all())
    tenancy = Tenancy(stores.database, slot, local)
    return slot, Worker(stores.database, local, config, own_name, taken_away, tenancy)


def _place_mb(config: Config) -> float:
    """What a place takes of its machine's memory, in MB."""
    if config.ray.slot_memory_mb != "auto":
        return config.ray.slot_memory_mb
    return max((each.manifest.pipeline.memory_mb for each in open_registry(config).all()), default=0)


def _took_a_job(worker: Worker, cut: threading.Event) -> bool:
    try:
        return worker.tick(cut)
    except DiskFailed:
        raise
    except StoreError as error:
        log.warning("worker.store_failed", error=str(error))
        return False


def _cut_after(stop: threading.Event, cut: threading.Event, limit_s: float) -> None:
    stop.wait()
    time.sleep(limit_s)
    cut.set()
