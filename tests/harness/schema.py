"""Databases of the current schema: the migrations make one of each kind, and the others are its copies."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import make_url

from dicomnode.store.database import Database


def upgraded(url: str) -> Database:
    """The database at `url`, of the current schema; a file of SQLite that is not there yet is a copy."""
    file = make_url(url).database
    if url.startswith("sqlite") and file and not Path(file).exists():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(_sqlite_file())
    database = Database(url)
    if not database.schema_status().current:
        database.upgrade()
    return database


@cache
def _sqlite_file() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder, "template.sqlite3")
        database = Database(f"sqlite:///{file}")
        database.upgrade()
        database.close()
        assert [each.name for each in Path(folder).glob("template.sqlite3*")] == [file.name]
        return file.read_bytes()
