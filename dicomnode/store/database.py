"""One database: SQLite or PostgreSQL, its transactions and the version of its schema."""

from __future__ import annotations

import select
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, ClauseElement, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from dicomnode.errors import ConfigError, DiskFailed, SchemaMismatch, StorageFailed
from dicomnode.store import signals
from dicomnode.store.durably import make_folder, write_again
from dicomnode.store.signals import FolderListener, Listener, PostgresListener

Transaction = Connection
"""What the functions of this package take; only services open one."""

_BUSY_TIMEOUT_MS = 30_000
_WRITES = "BEGIN IMMEDIATE"
_TURN_S = 0.0005
"""How often a writer looks whether it is its turn."""
_ENGINE: dict[str, Any] = {
    "hide_parameters": True,
    "pool_size": 8,
    "max_overflow": 120,
    "pool_use_lifo": True,
}
"""Values never stand in an error's text, and no association waits for the connection of another.

The connection that was used last is used next: SQLite has forgotten nothing of what it wrote by it.
"""


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The revision that was found (None: no tables) and the one that this version needs."""

    found: str | None
    expected: str

    @property
    def current(self) -> bool:
        """True where the two are the same."""
        return self.found == self.expected


class BareTransaction:
    """A transaction on the driver's own cursor, for statements that are made once."""

    def __init__(self, cursor: Any, dialect: Dialect) -> None:
        self._cursor, self.dialect = cursor, dialect.name
        self._sql = partial(_compiled, dialect=dialect)

    def first(self, statement: ClauseElement, values: dict[str, Any]) -> tuple[Any, ...] | None:
        """Run it, and return its first row."""
        text, constants = self._sql(statement)
        self._cursor.execute(text, constants | values)
        row: tuple[Any, ...] | None = self._cursor.fetchone()
        return row

    def each(self, statement: ClauseElement, rows: Sequence[dict[str, Any]]) -> int:
        """Run it for each of `rows`; returns how many rows of the database it changed."""
        text, constants = self._sql(statement)
        self._cursor.executemany(text, [constants | row for row in rows])
        return int(self._cursor.rowcount)


@cache
def _compiled(statement: ClauseElement, dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """The statement's text, whose parameters have names, and those that are always the same."""
    named = sqlite.dialect(paramstyle="named") if dialect.name == "sqlite" else dialect
    compiled = statement.compile(dialect=named)
    return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}


class Database:
    """Opens transactions on one SQLAlchemy URL; connections are made when they are needed."""

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        if self._url.get_backend_name() == "sqlite" and self._url.database:
            make_folder(Path(self._url.database).parent)
        self._engine = _engine(url)
        self._writer = self._engine.execution_options(begin=_WRITES)
        self._committing = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        is_sqlite = self._url.get_backend_name() == "sqlite"
        # SQLite's transactions see one state as they are; PostgreSQL's are told to.
        one_state = {} if is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reader = self._engine.execution_options(**one_state)
        is_file = is_sqlite and self._url.database
        self._signals = Path(f"{self._url.database}-signals") if is_file else None

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """A transaction that writes; durable when the block has ended. Raises StorageFailed."""
        with _storage_errors():
            with self._writer.begin() as tx:
                signals.forget(tx)
                yield tx
                topics = signals.forget(tx)
                if topics and self._signals is None:
                    signals.notify(tx, topics)
            if topics and self._signals is not None:
                signals.touch(self._signals, topics)

    @contextmanager
    def at_once(self) -> Iterator[Transaction]:
        """As `begin`, for what is one statement on PostgreSQL, where it commits by itself; announces nothing.

        To begin and to commit are a way there and back each.
        """
        if self._url.get_backend_name() == "sqlite":
            with self.begin() as tx:
                yield tx
            return
        with _storage_errors(), self._committing.connect() as tx:
            yield tx

    @contextmanager
    def begin_bare(self) -> Iterator[BareTransaction]:
        """As `begin`, below SQLAlchemy, for what runs for each instance; nothing is announced by it."""
        dialect = self._engine.dialect
        errors = dialect.loaded_dbapi.Error
        try:
            with _storage_errors(), closing(self._engine.raw_connection()) as connection:
                try:
                    if isinstance(raw := connection.driver_connection, sqlite3.Connection):
                        _take_turn(raw, _WRITES)
                    yield BareTransaction(connection.cursor(), dialect)
                    connection.commit()
                except errors as error:
                    if dialect.is_disconnect(error, connection.dbapi_connection, None):
                        connection.invalidate(error)
                    raise
        except errors as error:
            raise _failure(error, is_gone=False) from error

    def settle(self) -> None:
        """What SQLite's log holds is on the disk; nothing on PostgreSQL, which sees to it when it starts.

        Before anything is added to the log: a sync of it may have failed in an earlier life, and what the
        kernel still shows of it need not be on the disk. Raises DiskFailed, and StorageFailed.
        """
        if self._signals is None:
            return
        # Nobody adds to it meanwhile.
        with self.begin():
            try:
                write_again(Path(f"{self._url.database}-wal"))
            except OSError as error:
                raise DiskFailed(f"the database's log cannot be written: {error.strerror}") from error

    def listen(self) -> Listener:
        """Hear what transactions announce. Raises OSError."""
        return FolderListener(self._signals) if self._signals else PostgresListener(self._url)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that only reads, on one state of the database. Raises StorageFailed."""
        with _storage_errors(), self._reader.begin() as tx:
            yield tx

    def schema_status(self) -> SchemaStatus:
        """Which revision the database has, and which this version needs."""
        expected = ScriptDirectory.from_config(self._alembic()).get_current_head()
        with self.read() as tx:
            found = MigrationContext.configure(tx).get_current_revision()
        return SchemaStatus(found, str(expected))

    def require_schema(self) -> None:
        """Raises SchemaMismatch unless the schema is the one that this version knows."""
        status = self.schema_status()
        if not status.current:
            raise SchemaMismatch(status.found, status.expected)

    def upgrade(self) -> None:
        """Bring the schema to the revision that this version needs."""
        with self.begin() as tx:
            config = self._alembic()
            config.attributes["connection"] = tx
            command.upgrade(config, "head")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _alembic(self) -> AlembicConfig:
        config = AlembicConfig()
        config.set_main_option("script_location", str(_migrations()))
        return config


def _migrations() -> Path:
    """Beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise _failure(error.orig, is_gone=error.connection_invalidated) from error
    except PoolTimeout as error:
        raise StorageFailed("no connection to the database was free") from error


def _failure(error: BaseException | None, *, is_gone: bool) -> StorageFailed:
    """What an error of the driver means; `is_gone`: the connection is over."""
    if _is_of_the_disk(error):
        return DiskFailed(f"the database's disk failed: {error}")
    if is_gone or "connect" in str(error):
        return StorageFailed("the database cannot be reached (setting database.url)")
    return StorageFailed(f"the database refused: {type(error).__name__}")


def _is_of_the_disk(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT}


def _checked(url: str) -> URL:
    """Raises ConfigError; the URL itself is no part of it, since it may hold a password."""
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (NoSuchModuleError, ImportError):
        raise ConfigError("settings", [f"database.url: no driver for {parsed.drivername!r}"]) from None
    except (ArgumentError, ValueError):
        raise ConfigError("settings", ["database.url: is no SQLAlchemy URL"]) from None
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ConfigError("settings", ["database.url: must be sqlite or postgresql"])
    return parsed


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        engine = create_engine(url, connect_args={"connect_timeout": 10}, **_ENGINE)
        event.listen(engine, "checkout", _require_open)
        return engine
    engine = create_engine(url, **_ENGINE)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _require_open(connection: Any, _: ConnectionPoolEntry, __: object) -> None:
    """A server that went away has said so: then all connections are made anew. Costs no question to it."""
    if connection.closed:
        raise InvalidatePoolError
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if poll.poll(0):
        raise InvalidatePoolError


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """WAL with a sync at each commit: a commit survives a power failure, and readers never wait."""
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101  told to the type checker
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "case_sensitive_like=ON",
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the write lock at once, so that no transaction fails half-way for want of it."""
    begin = connection.get_execution_options().get("begin", "BEGIN")
    raw = connection.connection.driver_connection
    if begin == "BEGIN" or not isinstance(raw, sqlite3.Connection):
        connection.exec_driver_sql(begin)
        return
    try:
        _take_turn(raw, begin)
    except sqlite3.Error as error:
        raise DBAPIError(begin, None, error) from error


def _take_turn(raw: sqlite3.Connection, begin: str) -> None:
    """Begin as soon as nobody else writes. Raises sqlite3.Error."""
    # SQLite would sleep a tenth of a second at a time; another's commit takes a millisecond.
    raw.execute("PRAGMA busy_timeout=0")
    try:
        deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
        while not _has_begun(raw, begin):
            if time.monotonic() > deadline:
                raise sqlite3.OperationalError("database is locked")
            time.sleep(_TURN_S)
    finally:
        raw.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")


def _has_begun(raw: sqlite3.Connection, begin: str) -> bool:
    try:
        raw.execute(begin)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True
