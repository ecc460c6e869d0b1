"""Since when the receivers have been listening: a silence counts only while somebody could have heard."""

from __future__ import annotations

from sqlalchemy import case, delete, func, insert, select, update

from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import listener

TELL_S = 2.0
"""How often a receiver says that it listens."""
GAP_S = 6.0
"""A receiver that said nothing for this long may have been deaf."""
GONE_S = 600.0
"""One that said nothing for this long is not waited for any more."""


def begin(tx: Transaction, name: str) -> None:
    """A receiver listens from now on."""
    end(tx, name)
    tx.execute(insert(listener).values(name=name, since=Now(), seen_at=Now()))


def tell(tx: Transaction, name: str) -> None:
    """It still listens; after a gap it counts from now."""
    tx.execute(
        update(listener)
        .where(listener.c.name == name)
        .values(seen_at=Now(), since=case((listener.c.seen_at < Now(-GAP_S), Now()), else_=listener.c.since))
    )


def end(tx: Transaction, name: str) -> None:
    """It has stopped in order, with nothing in the air."""
    tx.execute(delete(listener).where(listener.c.name == name))


def listened_s(tx: Transaction) -> float:
    """For how many seconds every receiver has been listening without a gap; 0 where none does."""
    seen, since, now = tx.execute(
        select(func.min(listener.c.seen_at), func.max(listener.c.since), Now()).where(
            listener.c.seen_at >= Now(-GONE_S)
        )
    ).one()
    if seen is None or (now - seen).total_seconds() > GAP_S:
        return 0.0
    return max(0.0, float((now - since).total_seconds()))
