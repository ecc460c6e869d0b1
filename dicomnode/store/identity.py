"""Which installation this is: one row, written when the schema is made."""

from __future__ import annotations

from sqlalchemy import select

from dicomnode.store.database import Transaction
from dicomnode.store.schema import identity


def installation_uid(tx: Transaction) -> str:
    """The UID of this installation: the same for all nodes on one database, and for no other."""
    return str(tx.execute(select(identity.c.uid)).scalar_one())
