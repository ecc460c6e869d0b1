"""What all tests share: databases, the data beside the project, and the list of what was not run here."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

NOT_RUN_HERE = "not run here: "
"""A test whose peer is missing skips with a reason that begins so; the summary names each of them."""

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{NOT_RUN_HERE}../shared/data")
    return folder


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running cluster of our own that listens on a Unix socket in `folder` and nowhere else."""

    folder: Path

    def url(self, database: str) -> str:
        """The database as SQLAlchemy takes it."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def execute(self, statement: str, name: str) -> None:
        """Run one statement about the database `name`, outside a transaction."""
        with psycopg.connect(
            host=str(self.folder), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A cluster that lives as long as the session, without fsync: a machine's crash is not tested with it."""
    if (programs := _postgres_programs()) is None:
        pytest.skip(f"{NOT_RUN_HERE}PostgreSQL")
    # Not under pytest's own folder, which the unprivileged user may not enter; and socket paths are short.
    folder = Path(tempfile.mkdtemp(prefix="dicomnode-pg-"))
    run = _unprivileged(folder)
    try:
        run([programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"])
        options = f"-F -c listen_addresses='' -c unix_socket_directories='{folder}'"
        control = [programs / "pg_ctl", "-D", folder / "data", "-w"]
        run([*control, "-l", folder / "log", "-o", options, "start"])
        try:
            yield PostgresServer(folder)
        finally:
            run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def _database_names() -> Iterator[str]:
    return (f"test_{number}" for number in itertools.count())


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, _database_names: Iterator[str]) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own."""
    name = next(_database_names)
    postgres_server.execute("CREATE DATABASE {}", name)
    yield postgres_server.url(name)
    postgres_server.execute("DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the test's own, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.sqlite3'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


def _postgres_programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps them off the search path."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = shutil.which("pg_ctl")
    folders = [*reversed(debian), *([Path(on_path).resolve().parent] if on_path else [])]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _unprivileged(folder: Path) -> Callable[[list[str | Path]], None]:
    """How to run a command that owns `folder` and is not root, which initdb refuses to be."""
    account = None
    if os.geteuid() == 0:
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        account = known.get("postgres") or known["nobody"]
        os.chown(folder, account.pw_uid, account.pw_gid)
    options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}

    def run(command: list[str | Path]) -> None:
        # The server inherits what pg_ctl has open: a pipe would never end.
        with (folder / "out").open("a+b") as out:
            done = subprocess.run(
                command, check=False, cwd=folder, stdout=out, stderr=out, timeout=120, **options
            )
            if done.returncode:
                out.seek(0)
                raise RuntimeError(out.read().decode(errors="replace"))

    return run


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Name, after everything else, each test whose peer is missing on this machine."""
    result = yield
    missing = sorted(_not_run_here(terminalreporter))
    if missing:
        terminalreporter.section("not run here")
        for reason, nodeid in missing:
            terminalreporter.write_line(f"{NOT_RUN_HERE}{nodeid} ({reason})")
    return result


def _not_run_here(reporter: pytest.TerminalReporter) -> Iterator[tuple[str, str]]:
    """Pairs of what is missing and the test that needs it."""
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, (tuple, list)) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if reason.startswith(NOT_RUN_HERE):
            yield reason.removeprefix(NOT_RUN_HERE), report.nodeid
