"""Which job a slot gets: the most urgent one of its machine, as soon as there is room for it.

A job that has no room yet is overtaken by none that would take its room, and warm models that nobody uses
leave for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import exists, select

from dicomnode.model.job import TOO_LARGE, JobEvent
from dicomnode.model.queue import Waiting
from dicomnode.model.room import UNLIMITED_MB, Room, Slot, free_room, to_ask
from dicomnode.store import room
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.due import DEVICE_MB, HOST_MB, claiming, first
from dicomnode.store.schema import JOB_WAITS, device, job
from dicomnode.store.transitions import move

Given = Mapping[str, Any]


def lease(
    tx: Transaction, slot: Slot, given: Given, first_: Waiting | None, warm: str | None, *, within: bool
) -> Any:
    """Lease the job that the slot gets, and hold its memory; None where it gets none now.

    `given` is what `due.claiming` asks for.
    """
    before = None if first_ is None else first_.overtaken_by(warm)
    if first_ is not None and first_.digest == warm:
        row = lease_at_home(tx, given, within=within)
        if row is not None:
            return row
    return _lease_in_turn(tx, slot, given, before, within=within)


def lease_at_home(tx: Transaction, given: Given, *, within: bool = False) -> Any:
    """Lease the most urgent job if it is one of the slot's warm model, which has its room; else None."""
    return tx.execute(claiming(tx.dialect.name, within=within, at_home=True), given).first()


def _lease_in_turn(tx: Transaction, slot: Slot, given: Given, before: Waiting | None, *, within: bool) -> Any:
    """One slot of a machine after the other: none takes what another is about to."""
    machine = room.Machine(tx, slot)
    if machine.own is None or machine.own.leaving:
        return None
    free = free_room(slot, machine.others)
    most = Room(slot.room.host_mb, machine.largest_mb)
    row = None
    if before is not None:
        kind = {"of_digest": before.digest, "of_rank": before.rank, "come_by": before.urgent_at}
        asked = {**given, **kind, **_sizes(slot.room, free)}
        row = tx.execute(claiming(tx.dialect.name, within=within, sized=True, warm=True), asked).first()
    if row is None:
        asked = {**given, **_sizes(most, free)}
        row = tx.execute(claiming(tx.dialect.name, within=within, sized=True), asked).first()
    if row is None:
        row = _beside(tx, slot, machine, free, asked, within=within)
    if row is not None:
        room.take(tx, slot.worker, row.pipeline, row.pipeline_digest)
    return row


def _beside(
    tx: Transaction, slot: Slot, machine: room.Machine, free: Room, given: Given, *, within: bool
) -> Any:
    """Make room for the most urgent job; where it is another device's, lease what leaves room for it."""
    query = first(within=within, sized=True).with_for_update(skip_locked=True, of=job)
    needs = _needs(tx, query, given)
    if needs is None:
        return None
    if needs.device_mb > slot.room.device_mb:
        free -= Room(needs.host_mb, 0)
        given = {**given, **_sizes(slot.room, free)}
        row = tx.execute(claiming(tx.dialect.name, within=within, sized=True), given).first()
        if row is not None:
            return row
        needs = _needs(tx, query, given)
    if needs is not None:
        idle = room.idle(tx, machine.others)
        room.ask_to_leave(tx, to_ask(needs, free, slot.device, idle))
    return None


def _needs(tx: Transaction, query: Any, given: Given) -> Room | None:
    row = tx.execute(query, given).first()
    return None if row is None else Room(row.host_mb, row.device_mb)


def _sizes(most: Room, free: Room) -> dict[str, int]:
    return {
        "most_host_mb": most.host_mb,
        "most_device_mb": most.device_mb,
        "free_host_mb": free.host_mb,
        "free_device_mb": free.device_mb,
    }


_KNOWN = device.c.seen_at >= Now(-room.KNOWN_S)
_FITS = exists().where(_KNOWN, device.c.host_mb >= HOST_MB, device.c.device_mb >= DEVICE_MB).correlate(job)
_MISFITS = select(
    job.c.id, job.c.state, job.c.fence, HOST_MB.label("host_mb"), DEVICE_MB.label("device_mb")
).where(JOB_WAITS, HOST_MB.is_not(None), ~_FITS, exists().where(_KNOWN))


def any_misfit(tx: Transaction) -> bool:
    """True where a job waits that no device of any machine could run; locks nothing."""
    return tx.execute(_MISFITS.limit(1)).first() is not None


def hold_misfits(tx: Transaction) -> list[int]:
    """Hold what no device of any machine could run, and say why; returns the job ids."""
    rows = tx.execute(_MISFITS.with_for_update(skip_locked=True, of=job)).all()
    there = tx.execute(select(device).where(_KNOWN).order_by(device.c.host, device.c.name)).all()
    for row in rows:
        reason = _why(Room(row.host_mb, row.device_mb), there)
        move(tx, row, JobEvent.HOLD, detail=TOO_LARGE, reason_code=TOO_LARGE, reason=reason)
    return [row.id for row in rows]


def _why(needs: Room, there: Sequence[Any]) -> str:
    """In an administrator's words: what it needs, and what there is."""
    gpu = f" and {needs.device_mb} MB of a GPU" if needs.device_mb else ""
    return f"it needs {needs.host_mb} MB of memory{gpu}: {'; '.join(map(_has, there))}"


def _has(row: Any) -> str:
    machine = f"{row.host} has {row.host_mb} MB"
    if row.device_mb == UNLIMITED_MB:
        return machine
    return f"{machine}, its {row.name} {row.device_mb} MB" if row.device_mb else f"{machine} on its CPU"
