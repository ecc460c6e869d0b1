"""What all tests share: databases, the data beside the project, and the list of what was not run here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.store.bucket import BucketSettings
from tests.harness.postgres import PostgresServer, postgres_programs, running_postgres
from tests.harness.schema import upgraded
from tests.harness.swift import SwiftServer, running_swift, swift_is_here

NOT_RUN_HERE = "not run here: "
"""A test whose peer is missing skips with a reason that begins so; the summary names each of them."""

ROOT = Path(__file__).parents[1]
LONGEST = {
    *("acceptance", "demo", "docs", "faults", "pipeline", "pipelines", "viewer"),
    *("test_evidence_node.py", "test_priors_node.py", "test_ups_machine.py"),
}
"""Folders and files that take long: who began one of them last would leave the others idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    items.sort(key=lambda item: LONGEST.isdisjoint(item.path.relative_to(ROOT).parts))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{NOT_RUN_HERE}../shared/data")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A cluster that lives as long as the session, without fsync: a machine's crash is not tested with it."""
    if (programs := postgres_programs()) is None:
        pytest.skip(f"{NOT_RUN_HERE}PostgreSQL")
    with running_postgres(programs, "-F") as server:
        yield server


@pytest.fixture(scope="session")
def _database_names() -> Iterator[str]:
    return (f"test_{number}" for number in itertools.count())


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer, _database_names: Iterator[str]) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own."""
    yield from _postgres_database(postgres_server, next(_database_names), "template1")


@pytest.fixture(scope="session")
def _postgres_template(postgres_server: PostgresServer) -> str:
    name = "upgraded"
    postgres_server.execute("CREATE DATABASE {}", name)
    upgraded(postgres_server.url(name)).close()
    return name


@pytest.fixture
def postgres_url(
    postgres_server: PostgresServer, _postgres_template: str, _database_names: Iterator[str]
) -> Iterator[str]:
    """A PostgreSQL database of the test's own, of the current schema, without rows."""
    yield from _postgres_database(postgres_server, next(_database_names), _postgres_template)


def _postgres_database(server: PostgresServer, name: str, template: str) -> Iterator[str]:
    server.execute("CREATE DATABASE {} TEMPLATE {}", name, template)
    yield server.url(name)
    server.execute("DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the test's own, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.sqlite3'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own, of the current schema, without rows, once in each of the two."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.sqlite3'}"
        upgraded(url).close()
    else:
        url = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def swift_server() -> Iterator[SwiftServer]:
    """An S3 store that lives as long as the session. Who makes it refuse starts it again."""
    if not swift_is_here():
        pytest.skip(f"{NOT_RUN_HERE}OpenStack Swift")
    with running_swift() as server:
        yield server


@pytest.fixture(scope="session")
def _bucket_names() -> Iterator[str]:
    return (f"bucket-{number}" for number in itertools.count())


@pytest.fixture
def s3_bucket(swift_server: SwiftServer, _bucket_names: Iterator[str]) -> BucketSettings:
    """An empty bucket of the test's own."""
    return swift_server.settings(swift_server.make_bucket(next(_bucket_names)))


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
