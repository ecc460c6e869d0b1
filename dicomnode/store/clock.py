"""The database's own clock: every timer is set and read by it, never by a process's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, Float, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from dicomnode.store.schema import Instant


class Now(FunctionElement[datetime]):
    """The database's time plus `seconds`, as an SQL expression."""

    type = Instant()
    inherit_cache = True

    def __init__(self, seconds: float | BindParameter[float] = 0.0) -> None:
        given = seconds if isinstance(seconds, BindParameter) else literal(float(seconds), Float())
        super().__init__(given)


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


class Elapsed(FunctionElement[float]):
    """The seconds from one moment to another, as an SQL expression."""

    type = Float()
    inherit_cache = True


@compiles(Elapsed, "sqlite")
def _elapsed_sqlite(element: Elapsed, compiler: SQLCompiler, **options: Any) -> str:
    begin, end = (f"julianday({compiler.process(each, **options)})" for each in element.clauses)
    return f"(({end} - {begin}) * 86400.0)"


@compiles(Elapsed, "postgresql")
def _elapsed_postgresql(element: Elapsed, compiler: SQLCompiler, **options: Any) -> str:
    begin, end = (compiler.process(each, **options) for each in element.clauses)
    return f"extract(epoch FROM ({end} - {begin}))"
