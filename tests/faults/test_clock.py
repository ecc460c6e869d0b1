"""The clock that every timer follows, the database's, is set back under a running node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import NOT_RUN_HERE, PostgresServer
from tests.faults.books import Archive, Scene
from tests.harness.nodes import wait_for
from tests.harness.toy_pipeline import write_toy_pipeline


def faketime() -> Path:
    """The library that gives a process a clock of its own; skips without it."""
    found = [
        *Path("/usr/lib").glob("*/faketime/libfaketime.so.1"),
        *Path("/usr/lib/faketime").glob("libfaketime.so.1"),
    ]
    if not found:
        pytest.skip(f"{NOT_RUN_HERE}libfaketime")
    return found[0]


class Clock:
    """The clock that a process sees; monotonic time is not touched."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process see it."""
        return {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """`-1h`: an hour before the real time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(self._file)


@pytest.fixture
def clock(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of the database's server, started again for it; real time again afterwards."""
    clock = Clock(postgres_server.folder / "clock")
    with monkeypatch.context() as environment:
        for name, value in clock.environment.items():
            environment.setenv(name, value)
        postgres_server.stop()
        postgres_server.start()
    yield clock
    postgres_server.stop()
    postgres_server.start()


def test_a_clock_that_is_set_back_leaves_no_timer_an_hour_ahead(
    tmp_path: Path, archive: Archive, clock: Clock, postgres_url: str
) -> None:
    """The worker dies just then: its lease must end within seconds all the same."""
    pipelines = tmp_path / "slow"
    write_toy_pipeline(pipelines, extra="time.sleep(2.0)")
    scene = Scene(tmp_path, archive, pipelines, DICOMNODE_DATABASE_URL=postgres_url)
    scene.node.start()
    try:
        scene.send()
        (claimed,) = wait_for("the job to be claimed", lambda: scene.events("job.claimed"))
        clock.set("-1h")
        psutil.Process(scene.pid_of(claimed["process"])).kill()
        scene.settle()
    finally:
        scene.node.kill()
