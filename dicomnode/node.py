"""The composition root: what runs, on what, and in which order it starts and stops."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from dicomnode import __version__
from dicomnode.config import Address, Config, DatabaseSection, ObjectsSection, load_config
from dicomnode.dicomweb.capabilities import served_by
from dicomnode.dicomweb.transactions import TRANSACTIONS
from dicomnode.dimse.receiver import configure_pynetdicom
from dicomnode.dimse.service import Intake
from dicomnode.dimse.tls import listener_context, requestor_context
from dicomnode.errors import ConfigError, ObjectsAway
from dicomnode.executors.ray_machine import require_usable
from dicomnode.installation import Stores, open_registry, open_stores
from dicomnode.logs import configure_logs
from dicomnode.model.role import Role
from dicomnode.roles.engine import run_engine
from dicomnode.roles.machine import run_machine
from dicomnode.roles.receiver import listener_tls, receiver_services, receiver_settings, run_receiver
from dicomnode.roles.web import open_guard, run_web, web_routes
from dicomnode.roles.worker import run_worker
from dicomnode.services.commitment import CommitmentProvider
from dicomnode.services.conformance.document import Statement
from dicomnode.services.conformance.statement import describe
from dicomnode.services.conformance.subject import Subject
from dicomnode.services.ingest import Incoming, Ingest
from dicomnode.services.recovery import recover
from dicomnode.services.routing import RouteTable
from dicomnode.services.scratch import remove_scratch_of_the_dead
from dicomnode.services.secrets import require_safe_secret
from dicomnode.services.versions import settle_versions
from dicomnode.supervisor import EXIT_CONFIG, EXIT_DISK, Supervisor, run_apart

log = structlog.get_logger()

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
    for destination in config.destination:
        require_safe_secret(destination)
    open_guard(config, note_guessing=lambda _: None)
    if config.workers.executor == "ray":
        _require_ray(config, file)


def serve(file: Path) -> int:
    """Run the whole node on this machine until it is told to stop; returns the exit status."""
    config = load_config(file)
    configure_logs(config.logs.level, config.logs.format)
    check(config, file)
    _require_network(config, file)
    stores = open_stores(config)
    if stores.database.schema_status().found is None:
        stores.database.upgrade()
    stores.database.require_schema()
    settle_versions(stores.database, open_registry(config))
    with _stop_on_signals() as stop:
        status = _run_verified(config, file, stores, stop)
        while status == EXIT_DISK and not stop.wait(_DISK_PAUSE_S):
            status = _run_verified(config, file, stores, stop)
    log.info("node.stopped", status=status)
    return status


def _run_verified(config: Config, file: Path, stores: Stores, stop: threading.Event) -> int:
    """Look at what is kept, then run all processes until `stop`, or until the disk fails."""
    if stores.objects.is_local:
        recover(stores.database, stores.objects)
    remove_scratch_of_the_dead(config.node.data)
    stores.database.close()
    # What has asked S3 has threads, and must not fork any more.
    if not stores.objects.is_local:
        status = run_apart(partial(_recover_apart, config), stop)
        if status in (EXIT_CONFIG, EXIT_DISK):
            return status
    log.info("node.started", ae_title=config.node.ae_title, pid=os.getpid())
    with ExitStack() as held:
        return Supervisor(_bodies(_with_ports(config, held), file), config.node.stop_limit_s).run(stop)


def _recover_apart(config: Config) -> int:
    """A store that is away keeps no node from starting: it receives nothing until then, and says so."""
    stores = open_stores(config)
    try:
        recover(stores.database, stores.objects)
    except ObjectsAway as error:
        log.warning("recovery.put_off", error=str(error))
    return 0


def _bodies(config: Config, file: Path) -> dict[str, Callable[[], int]]:
    """One process a role; workers only where there is something to run."""
    slots = range(1, len(config.workers.places) + 1) if open_registry(config).names() else ()
    webs = range(1, config.web.processes + 1)
    roles = [
        *((Role.RECEIVER, slot) for slot in range(1, config.dimse.processes + 1)),
        *((Role.WEB, slot) for slot in webs),
        (Role.ENGINE, 1),
        *((Role.WORKER, slot) for slot in slots),
    ]
    if config.workers.executor == "ray":
        roles.insert(0, (Role.RAY, 1))
    return {_process_name(role, slot): partial(run_role, config, file, role, slot) for role, slot in roles}


def _with_ports(config: Config, held: ExitStack) -> Config:
    """The same with ports that are free in place of 0, so that the receivers have the same ones."""
    dimse = config.dimse
    if dimse.processes == 1:
        return config
    tls = dimse.tls.model_copy(update={"port": dimse.tls.port or _free_port(dimse.address, held)})
    port = dimse.port or _free_port(dimse.address, held)
    return config.model_copy(update={"dimse": dimse.model_copy(update={"port": port, "tls": tls})})


def _free_port(address: Address, held: ExitStack) -> int:
    """A port that only those get, until `held` ends, who share it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    holder = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((str(address), 0))
    return int(holder.getsockname()[1])


def _process_name(role: Role, slot: int) -> str:
    return f"{role}-{slot}" if role is Role.WORKER or slot > 1 else str(role)


def _require_ray(config: Config, file: Path) -> None:
    if not config.ray.address:
        raise ConfigError(file, ["ray.address is empty: there is no cluster to join"])
    if find_spec("ray") is None:
        raise ConfigError(file, ["Ray is not installed: pip install dicomnode[ray]"])
    require_usable(config.ray)


def _require_network(config: Config, file: Path) -> None:
    _require_free_port(file, "dimse", config.dimse.address, config.dimse.port)
    if (tls := listener_tls(config.dimse.tls)) is not None:
        _require_free_port(file, "dimse.tls", config.dimse.address, tls.port)
        _require_usable(file, "dimse.tls", partial(listener_context, tls))
    for entry in (*config.peer, *(one.dimse for one in config.destination if one.dimse is not None)):
        if (peer_tls := entry.peer.tls) is not None:
            _require_usable(file, f"{entry.ae_title}: tls", partial(requestor_context, peer_tls))
    _require_free_port(file, "web", config.web.address, config.web.port)


def _require_free_port(file: Path, section: str, address: Address, port: int) -> None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(address), port))
        except OSError as error:
            problem = f"{section}.port: cannot listen on {address} port {port}: {error.strerror}"
            raise ConfigError(file, [problem]) from None


def _require_usable(file: Path, key: str, read: Callable[[], object]) -> None:
    try:
        read()
    except OSError as error:
        raise ConfigError(file, [f"{key}: the files cannot be used: {error}"]) from None


def serve_role(file: Path, role: Role, slot: int) -> int:
    """Run one role of the node until it is told to stop; returns the exit status."""
    config = load_config(file)
    if role is not Role.RAY:
        return run_role(config, file, role, slot)
    # It has nobody else who starts it again after the first machine was away.
    configure_logs(config.logs.level, config.logs.format)
    _require_ray(config, file)
    with _stop_on_signals() as stop:
        bodies = {_process_name(role, slot): partial(run_role, config, file, role, slot)}
        return Supervisor(bodies, config.node.stop_limit_s).run(stop)


def run_role(config: Config, file: Path, role: Role, slot: int) -> int:
    """Run one role in this process until it is told to stop; returns the exit status."""
    name = _process_name(role, slot)
    configure_logs(config.logs.level, config.logs.format, process=name)
    if role is Role.RAY:
        with _stop_on_signals() as stop:
            return run_machine(config, file, stop)
    stores = open_stores(config)
    stores.database.require_schema()
    stores.objects.remove_stale_temporaries()
    with _stop_on_signals() as stop:
        if role is Role.RECEIVER:
            return run_receiver(config, stores, slot, stop)
        if role is Role.WEB:
            return run_web(config, stores, name, stop)
        if role is Role.ENGINE:
            return run_engine(config, stores, stop)
        return run_worker(config, stores, name, slot, stop)


def conformance(config: Config) -> Statement:
    """What this node offers and asks for, as it is put together over empty stores. Raises ConfigError."""
    configure_pynetdicom()
    registry = open_registry(config)
    with TemporaryDirectory() as folder:
        node = config.node.model_copy(update={"data": Path(folder)})
        empty = {"node": node, "database": DatabaseSection(), "objects": ObjectsSection()}
        stores = open_stores(config.model_copy(update=empty))
        ingest = Ingest(stores.database, stores.objects)
        intake = Intake(ingest.begin, Incoming.write, ingest.store)
        provider = CommitmentProvider(stores.database, stores.objects, config.delivery)
        subject = Subject(
            __version__,
            config,
            receiver_settings(config),
            tuple(receiver_services(config, stores, intake, provider)),
            {key: TRANSACTIONS[key] for route in web_routes(config, stores) for key in served_by(route)},
            tuple(each.manifest for each in registry.all()),
        )
        return describe(subject)


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
