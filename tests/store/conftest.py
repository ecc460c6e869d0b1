from collections.abc import Iterator

import pytest

from dicomnode.store.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of the current schema, once SQLite and once PostgreSQL."""
    database = Database(database_url)
    database.upgrade()
    yield database
    database.close()
