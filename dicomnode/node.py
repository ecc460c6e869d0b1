"""The composition root: what runs, on what, and in which order it starts and stops."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog

from dicomnode.config import Config, load_config
from dicomnode.dimse.receiver import AcceptRule, Receiver, ReceiverSettings, configure_pynetdicom
from dicomnode.errors import ConfigError, DiskFailed, StoreError
from dicomnode.installation import Stores, open_registry, open_stores
from dicomnode.logs import configure_logs
from dicomnode.model.instance import Received
from dicomnode.model.role import Role
from dicomnode.services.completion import CompletionService
from dicomnode.services.delivery import Courier, serve_destination, tell_stranded
from dicomnode.services.execution import Worker
from dicomnode.services.expiry import expire_leases
from dicomnode.services.find import Finder
from dicomnode.services.ingest import Ingest
from dicomnode.services.listening import listening
from dicomnode.services.notices import NoticeService
from dicomnode.services.recovery import recover
from dicomnode.services.routing import RouteTable, RoutingService
from dicomnode.supervisor import EXIT_DISK, Supervisor

log = structlog.get_logger()

PAUSE_S = 0.2
"""How long a role without work waits before it looks again."""
_DISK_PAUSE_S = 5.0


def check(config: Config, file: Path) -> None:
    """Everything that can be known before the start. Raises ConfigError."""
    installed = open_registry(config).names()
    problems = [
        f"route[{number}].pipeline: {route.pipeline!r} is not installed; there are {', '.join(installed)}"
        for number, route in enumerate(config.route, start=1)
        if route.pipeline not in installed
    ]
    if problems:
        raise ConfigError(file, problems)
    RouteTable(config, str(file))


def serve(file: Path) -> int:
    """Run the whole node on this machine until it is told to stop; returns the exit status."""
    config = load_config(file)
    configure_logs(config.logs.level, config.logs.format)
    check(config, file)
    _require_free_port(config, file)
    stores = open_stores(config)
    if stores.database.schema_status().found is None:
        stores.database.upgrade()
    stores.database.require_schema()
    with _stop_on_signals() as stop:
        status = _run_verified(config, stores, stop)
        while status == EXIT_DISK and not stop.wait(_DISK_PAUSE_S):
            status = _run_verified(config, stores, stop)
    log.info("node.stopped", status=status)
    return status


def _run_verified(config: Config, stores: Stores, stop: threading.Event) -> int:
    """Look at what is kept, then run all processes until `stop`, or until the disk fails."""
    recover(stores.database, stores.objects)
    stores.database.close()
    log.info("node.started", ae_title=config.node.ae_title, pid=os.getpid())
    return Supervisor(_bodies(config), config.node.stop_limit_s).run(stop)


def _bodies(config: Config) -> dict[str, Callable[[], int]]:
    """One process a role; workers only where there is something to run."""
    slots = range(1, config.workers.slots + 1) if config.route else ()
    roles = [(Role.RECEIVER, 1), (Role.ENGINE, 1), *((Role.WORKER, slot) for slot in slots)]
    return {_process_name(role, slot): partial(run_role, config, role, slot) for role, slot in roles}


def _process_name(role: Role, slot: int) -> str:
    return f"{role}-{slot}" if role is Role.WORKER else str(role)


def _require_free_port(config: Config, file: Path) -> None:
    address = config.dimse.address
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(address), config.dimse.port))
        except OSError as error:
            problem = f"dimse.port: cannot listen on {address} port {config.dimse.port}: {error.strerror}"
            raise ConfigError(file, [problem]) from None


def run_role(config: Config, role: Role, slot: int) -> int:
    """Run one role in this process until it is told to stop; returns the exit status."""
    name = _process_name(role, slot)
    configure_logs(config.logs.level, config.logs.format, process=name)
    stores = open_stores(config)
    stores.database.require_schema()
    with _stop_on_signals() as stop:
        if role is Role.RECEIVER:
            return _run_receiver(config, stores, stop)
        if role is Role.ENGINE:
            return _run_engine(config, stores, stop)
        return _run_worker(config, stores, name, stop)


def _run_receiver(config: Config, stores: Stores, stop: threading.Event) -> int:
    """Takes instances in until told to stop, or until the disk fails: then a restart verifies it."""
    configure_pynetdicom()
    ingest = Ingest(stores.database, stores.objects)
    failed = threading.Event()

    def on_instance(received: Received) -> None:
        try:
            ingest.store(received)
        except DiskFailed:
            failed.set()
            stop.set()
            raise

    receiver = Receiver(
        _receiver_settings(config), on_instance, Finder(stores.database, config.node.ae_title)
    )
    receiver.start()
    with listening(stores.database, _listener_name(config)):
        log.info("receiver.listening", port=receiver.port, address=str(config.dimse.address))
        stop.wait()
        receiver.stop(config.node.stop_limit_s * 0.8)
    return EXIT_DISK if failed.is_set() else 0


def _listener_name(config: Config) -> str:
    """The same after a restart, on whatever port: what a killed receiver left is then its successor's."""
    place = hashlib.sha256(str(config.node.data).encode()).hexdigest()[:16]
    return f"{socket.gethostname()[:40]}-{place}"


def _receiver_settings(config: Config) -> ReceiverSettings:
    return ReceiverSettings(
        ae_title=config.node.ae_title,
        address=str(config.dimse.address),
        port=config.dimse.port,
        accept=tuple(AcceptRule(entry.ae_title, entry.address) for entry in config.dimse.accept),
        maximum_associations=config.dimse.maximum_associations,
        maximum_pdu=config.dimse.maximum_pdu,
        acse_timeout_s=config.dimse.acse_timeout_s,
        network_timeout_s=config.dimse.network_timeout_s,
    )


def _run_engine(config: Config, stores: Stores, stop: threading.Event) -> int:
    """Completion, routing and expired leases in this thread; each destination has one of its own."""
    configure_pynetdicom()
    completion = CompletionService(stores.database, config.completion)
    registry = open_registry(config)
    routing = RoutingService(stores.database, stores.objects, RouteTable(config), registry)
    notices = NoticeService(stores.database, stores.objects, registry, config)
    couriers = [
        Courier(stores.database, stores.objects, destination, config.node.ae_title, config.delivery)
        for destination in config.destination
    ]
    threads = [
        threading.Thread(target=serve_destination, args=(courier, stop, PAUSE_S), daemon=True)
        for courier in couriers
    ]
    for thread in threads:
        thread.start()
    tell_stranded(stores.database, [destination.name for destination in config.destination])
    try:
        while not stop.wait(PAUSE_S):
            try:
                expire_leases(stores.database, config.jobs.attempts)
                completion.tick()
                routing.tick()
                notices.tick()
            except DiskFailed:
                raise
            except StoreError as error:
                log.warning("engine.store_failed", error=str(error))
    finally:
        stop.set()
        _join(threads, config.node.stop_limit_s * 0.6)
        for courier in couriers:
            courier.hand_back()
    return 0


def _join(threads: Sequence[threading.Thread], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _run_worker(config: Config, stores: Stores, name: str, stop: threading.Event) -> int:
    """One slot. After a stop the run in hand has most of the limit to end; then it is handed back."""
    worker = Worker(stores.database, stores.objects, open_registry(config), config, name)
    cut = threading.Event()
    threading.Thread(target=_cut_after, args=(stop, cut, config.node.stop_limit_s * 0.6), daemon=True).start()
    try:
        while not stop.is_set():
            if not _took_a_job(worker, cut):
                stop.wait(PAUSE_S)
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


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """SIGTERM and SIGINT ask for an orderly end."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
