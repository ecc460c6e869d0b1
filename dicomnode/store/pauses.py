"""What is paused: the only place where that is written. A pause outlives every process."""

from __future__ import annotations

from sqlalchemy import delete, exists, insert, select

from dicomnode.errors import NotFound
from dicomnode.model.queue import Pause, PauseKind
from dicomnode.model.topic import Topic
from dicomnode.store import audit
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import pause
from dicomnode.store.signals import announce


def add(tx: Transaction, kind: PauseKind, name: str, reason: str, actor: str) -> None:
    """From now on nothing of it is claimed; where it was paused already, the later reason counts."""
    tx.execute(delete(pause).where(pause.c.kind == kind, pause.c.name == name))
    tx.execute(insert(pause).values(kind=kind, name=name, reason=reason, actor=actor, at=Now()))
    audit.record(tx, "paused", {"kind": kind, "name": name, "reason": reason, "actor": actor})


def remove(tx: Transaction, kind: PauseKind, name: str, actor: str) -> None:
    """It goes on. Raises NotFound where it was not paused."""
    gone = tx.execute(delete(pause).where(pause.c.kind == kind, pause.c.name == name)).rowcount
    if not gone:
        raise NotFound(f"paused {kind}", name)
    audit.record(tx, "resumed", {"kind": kind, "name": name, "actor": actor})
    announce(tx, Topic.JOB)


def find(tx: Transaction) -> list[Pause]:
    """All pauses, the oldest first."""
    rows = tx.execute(select(pause).order_by(pause.c.id))
    return [Pause(PauseKind(row.kind), row.name, row.reason, row.actor, row.at) for row in rows]


def holds(tx: Transaction, kind: PauseKind, name: str) -> bool:
    """True where that is paused."""
    held = select(exists().where(pause.c.kind == kind, pause.c.name == name))
    return bool(tx.execute(held).scalar_one())
