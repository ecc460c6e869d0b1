"""Timers when the database's clock is set back: what lies ahead keeps the time that it had left."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Float, Table, insert, literal, select, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from dicomnode.store.clock import read_clock
from dicomnode.store.database import Transaction
from dicomnode.store.schema import Instant, clock, metadata

TOLERANCE_S = 1.0
"""Time servers correct a clock by less; every wait is longer."""
_ROW = 1


class Earlier(FunctionElement[datetime]):
    """A moment less `seconds`, as an SQL expression."""

    type = Instant()
    inherit_cache = True

    def __init__(self, moment: Column[Any], seconds: float) -> None:
        super().__init__(moment, literal(float(seconds), Float()))


@compiles(Earlier, "sqlite")
def _sqlite(element: Earlier, compiler: SQLCompiler, **options: Any) -> str:
    moment, seconds = (compiler.process(each, **options) for each in element.clauses)
    return f"strftime('%Y-%m-%d %H:%M:%f000', {moment}, (-{seconds}) || ' seconds')"


@compiles(Earlier, "postgresql")
def _postgresql(element: Earlier, compiler: SQLCompiler, **options: Any) -> str:
    moment, seconds = (compiler.process(each, **options) for each in element.clauses)
    return f"({moment} - make_interval(secs => {seconds}))"


def follow_clock(tx: Transaction) -> float:
    """Note what time it is; returns the seconds by which the clock was set back since this was last noted.

    Then every timer that lies ahead is moved by as much. Only one caller at a time notices.
    """
    seen_at = tx.execute(select(clock.c.seen_at).where(clock.c.id == _ROW).with_for_update()).scalar()
    now = read_clock(tx)
    if seen_at is None:
        tx.execute(insert(clock).values(id=_ROW, seen_at=now))
        return 0.0
    tx.execute(update(clock).where(clock.c.id == _ROW).values(seen_at=now))
    set_back_s = float((seen_at - now).total_seconds())
    if set_back_s <= TOLERANCE_S:
        return 0.0
    for table, timers in _timers().items():
        for timer in timers:
            ahead = update(table).where(timer > now)
            tx.execute(ahead.values({timer: Earlier(timer, set_back_s)}))
    return set_back_s


def _timers() -> dict[Table, list[Column[Any]]]:
    found: dict[Table, list[Column[Any]]] = defaultdict(list)
    for table in metadata.sorted_tables:
        for column in table.columns:
            if "timer" in column.info:
                found[table].append(column)
    return found
