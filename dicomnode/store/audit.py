"""What an administrator must be able to look up later, and no other table tells."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert

from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import audit


def record(tx: Transaction, event: str, facts: Mapping[str, str | int | None]) -> None:
    """Write one line of the audit trail."""
    tx.execute(insert(audit).values(event=event, facts=dict(facts), at=Now()))
