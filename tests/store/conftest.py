from collections.abc import Iterator

import pytest

from dicomnode.store.database import Database
from tests.harness.schema import upgraded


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of the current schema, once SQLite and once PostgreSQL."""
    database = upgraded(database_url)
    yield database
    database.close()
