"""One slot: runs jobs, one after the other."""

from __future__ import annotations

import threading
import time

import structlog

from dicomnode.config import Config
from dicomnode.errors import DiskFailed, StoreError
from dicomnode.installation import Stores, open_registry
from dicomnode.model.topic import Topic
from dicomnode.roles.watching import LOOK_S, worker_name
from dicomnode.services.attendance import working
from dicomnode.services.execution import Worker
from dicomnode.services.repeating import Pace
from dicomnode.services.waking import Waking

log = structlog.get_logger()


def run_worker(config: Config, stores: Stores, name: str, stop: threading.Event) -> int:
    """One slot. After a stop the run in hand has most of the limit to end; then it is handed back."""
    waking = Waking(stores.database, stop)
    bell, taken_away, pace = waking.bell(Topic.JOB), waking.bell(Topic.LEASE), Pace(LOOK_S)
    own_name = worker_name(config, name)
    worker = Worker(stores.database, stores.objects, open_registry(config), config, own_name, taken_away)
    cut = threading.Event()
    threading.Thread(target=_cut_after, args=(stop, cut, config.node.stop_limit_s * 0.6), daemon=True).start()
    try:
        with waking, working(stores.database, own_name):
            while not stop.is_set():
                if bell.wait(pace.rest_s(busy=_took_a_job(worker, cut))):
                    pace.again()
    finally:
        worker.close()
    return 0


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
