"""A PostgreSQL cluster of our own, from Debian's packages, on a Unix socket and nowhere else."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running cluster of our own that listens on a Unix socket in `folder` and nowhere else."""

    folder: Path
    _start: Callable[[], None]
    _stop: Callable[[], None]

    def start(self) -> None:
        """Start it on what is on its disk; returns when it answers."""
        self._start()

    def stop(self) -> None:
        """End it as a crash would: every connection breaks, nothing is written any more."""
        self._stop()

    def url(self, database: str) -> str:
        """The database as SQLAlchemy takes it."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def execute(self, statement: str, *names: str) -> None:
        """Run one statement about the databases `names`, outside a transaction."""
        with psycopg.connect(
            host=str(self.folder), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def running_postgres(programs: Path, *options: str) -> Iterator[PostgresServer]:
    """A cluster that lives as long as the block; `options` are those of the server."""
    # Not under pytest's own folder, which the unprivileged user may not enter; and socket paths are short.
    folder = Path(tempfile.mkdtemp(prefix="dicomnode-pg-"))
    run = _unprivileged(folder)
    try:
        run([programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"])
        places = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        control = [programs / "pg_ctl", "-D", folder / "data", "-w"]
        server = PostgresServer(
            folder,
            lambda: run([*control, "-l", folder / "log", "-o", " ".join([*options, places]), "start"]),
            lambda: run([*control, "-m", "immediate", "stop"]),
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def postgres_programs() -> Path | None:
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
