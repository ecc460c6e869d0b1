"""Who holds how much memory of each machine and device, for a run or for a model that is kept warm."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicomnode.model.queue import PauseKind
from dicomnode.model.room import CPU, DeviceStatus, Room, Slot, Tenant
from dicomnode.model.topic import Topic
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.due import paused
from dicomnode.store.schema import JOB_RUNS, bundle, device, job, run, shadow, worker
from dicomnode.store.signals import announce

GONE_S = 35.0
"""A worker that said nothing for this long is not there any more."""
HELD_S = 600.0
"""What it held counts for longer: it may be stopped, and its model still be there."""
KNOWN_S = 86_400.0
"""A device of which nothing was heard for so long is none any more; until then jobs wait for it."""

USED_S = 3600.0
"""A model that was used within this time is known by its last run, another by when it was taken."""

_NOTHING = {
    "pipeline": None,
    "pipeline_digest": None,
    "held_host_mb": 0,
    "held_device_mb": 0,
    "leaving": False,
}
_LIVE = (worker.c.seen_at >= Now(-GONE_S)) & worker.c.name.not_in(paused(PauseKind.WORKER))


def is_there() -> ColumnElement[bool]:
    """The workers that are there."""
    return worker.c.seen_at >= Now(-GONE_S)


def _there(*columns: ColumnElement[Any]) -> Select[Any]:
    """The workers of a machine that may hold something, in the one order in which they are locked."""
    return (
        select(worker, *columns)
        .where(worker.c.seen_at >= Now(-HELD_S))
        .order_by(worker.c.name)
        .with_for_update(of=worker)
    )


_TENANTS = _there(device.c.device_mb, _LIVE.label("live")).select_from(
    worker.outerjoin(device, (device.c.host == worker.c.host) & (device.c.name == worker.c.device))
)


class Machine:
    """The workers of one machine, as they are while the transaction has them locked."""

    def __init__(self, tx: Transaction, slot: Slot) -> None:
        rows = tx.execute(_TENANTS.where(worker.c.host == slot.host)).all()
        tenants = [_tenant(row) for row in rows]
        self.own = next((each for each in tenants if each.worker == slot.worker), None)
        self.others = [each for each in tenants if each.worker != slot.worker]
        live = [row.device_mb for row in rows if row.live and row.device_mb is not None]
        self.largest_mb = max([slot.room.device_mb, *live])
        """The memory of the largest device that somebody works on."""


def idle(tx: Transaction, tenants: Collection[Tenant]) -> list[Tenant]:
    """Those who run nothing, each since its last run; one with the model of a shadow, since never."""
    busy = set(tx.execute(select(job.c.lease_owner).where(JOB_RUNS)).scalars())
    found = [each for each in tenants if each.worker not in busy and each.held != Room(0, 0)]
    names = [each.worker for each in found]
    ran = tx.execute(
        select(run.c.worker, func.max(run.c.ended_at))
        .where(run.c.ended_at > Now(-USED_S), run.c.worker.in_(names))
        .group_by(run.c.worker)
    )
    since = {row[0]: row[1] for row in ran}
    in_shadow = worker.c.pipeline_digest.in_(select(shadow.c.digest))
    first = tx.execute(select(worker.c.name).where(worker.c.name.in_(names), in_shadow)).scalars()
    since |= dict.fromkeys(first)
    return [replace(each, since=since.get(each.worker, each.since)) for each in found]


_OF_BUNDLE = bundle.c.pipeline_digest == bindparam("digest")
_TAKE = (
    update(worker)
    .where(worker.c.name == bindparam("taken_by"))
    .values(
        pipeline=bindparam("of_pipeline"),
        pipeline_digest=bindparam("digest"),
        held_host_mb=select(bundle.c.memory_mb).where(_OF_BUNDLE).scalar_subquery(),
        held_device_mb=select(bundle.c.gpu_memory_mb).where(_OF_BUNDLE).scalar_subquery(),
        held_since=Now(),
    )
)


def is_kept_warm(tx: Transaction, pipeline_digest: str) -> bool:
    """True where a worker that has nothing to do has the model of that bundle."""
    works = select(job.c.id).where(JOB_RUNS, job.c.lease_owner == worker.c.name).exists()
    keeps = worker.c.pipeline_digest == pipeline_digest
    return (
        tx.execute(select(worker.c.name).where(keeps, _LIVE, ~worker.c.leaving, ~works)).first() is not None
    )


def take(tx: Transaction, worker_name: str, pipeline: str, pipeline_digest: str) -> None:
    """The worker holds from here on what a job of that bundle needs, and nothing else."""
    given = {"taken_by": worker_name, "of_pipeline": pipeline, "digest": pipeline_digest}
    tx.execute(_TAKE, given)


def ask_to_leave(tx: Transaction, workers: Collection[str]) -> None:
    """These are to end the model that they keep warm."""
    if workers:
        tx.execute(update(worker).where(worker.c.name.in_(sorted(workers))).values(leaving=True))
        announce(tx, Topic.ROOM)


def is_to_leave(tx: Transaction, worker_name: str) -> bool:
    """True where that worker was asked to end its model, or was forgotten while it was silent."""
    leaving = tx.execute(select(worker.c.leaving).where(worker.c.name == worker_name)).scalar()
    return leaving is None or bool(leaving)


def give_back(tx: Transaction, worker_name: str) -> None:
    """The worker's model has ended: it holds nothing."""
    held = (worker.c.name == worker_name) & (worker.c.pipeline_digest.is_not(None) | worker.c.leaving)
    if tx.execute(update(worker).where(held).values(**_NOTHING)).rowcount:
        announce(tx, Topic.JOB)


def declare(tx: Transaction, slot: Slot) -> None:
    """The slot's device is there, with so much memory; what its machine had beside it before, is not."""
    tx.execute(delete(device).where(device.c.host == slot.host, device.c.name.not_in(slot.beside)))
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    has = {"host_mb": slot.room.host_mb, "device_mb": slot.room.device_mb}
    new = dialect.insert(device).values(host=slot.host, name=slot.device, seen_at=Now(), **has)
    tx.execute(
        new.on_conflict_do_update(
            index_elements=["host", "name"], set_={**has, "seen_at": new.excluded.seen_at}
        )
    )


def devices(tx: Transaction) -> list[DeviceStatus]:
    """The devices that were heard of lately, and what is held of each; `cpu` is its machine's memory."""
    host_held = _held(tx, worker.c.held_host_mb, worker.c.host)
    device_held = _held(tx, worker.c.held_device_mb, worker.c.host, worker.c.device)
    rows = tx.execute(
        select(device).where(device.c.seen_at >= Now(-GONE_S)).order_by(device.c.host, device.c.name)
    ).all()
    machines = {row.host: row.host_mb for row in rows}
    found = [
        DeviceStatus(host, CPU, host_mb, host_held.get((host,), 0)) for host, host_mb in machines.items()
    ]
    found += [
        DeviceStatus(row.host, row.name, row.device_mb, device_held.get((row.host, row.name), 0))
        for row in rows
        if row.name != CPU
    ]
    return sorted(found, key=lambda each: (each.host, each.name != CPU, each.name))


def _held(tx: Transaction, amount: Any, *of: Any) -> dict[tuple[Any, ...], int]:
    rows = tx.execute(
        select(*of, func.sum(amount)).where(worker.c.seen_at >= Now(-HELD_S)).group_by(*of)
    ).all()
    return {tuple(row[:-1]): int(row[-1]) for row in rows}


def _tenant(row: Any) -> Tenant:
    held = Room(row.held_host_mb, row.held_device_mb)
    return Tenant(row.name, row.device, held, row.held_since, row.leaving)
