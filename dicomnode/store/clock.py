"""The database's own clock: every timer is set and read by it, never by a process's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Float, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from dicomnode.store.schema import Instant


class Now(FunctionElement[datetime]):
    """The database's time plus `seconds`, as an SQL expression."""

    type = Instant()
    inherit_cache = True

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(literal(float(seconds), Float()))


@compiles(Now, "sqlite")
def _sqlite(element: Now, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"


@compiles(Now, "postgresql")
def _postgresql(element: Now, compiler: SQLCompiler, **options: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


def read_clock(tx: Connection) -> datetime:
    """What time it is for the database."""
    return tx.execute(select(Now())).scalar_one()
