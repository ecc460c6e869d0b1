"""The job table beside two kept job queues on the same PostgreSQL: claim and finish jobs that do nothing.

10,000 jobs, by one worker process and by four, each with one slot. procrastinate and pgqueuer run as their
documentation starts them, one job at a time as a slot here does. pgqueuer's default of ten at a time is
printed, too, and is no goal: who claims ten jobs for one slot keeps nine from those that are free. The server
does not sync its commits: the work of the queues is compared, and not the disk. Then the same with 1,000,000
finished jobs in our table, beside none.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import procrastinate
import psycopg
from line import Lines, higher, lower
from rich.console import Console

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dicomnode.model.room import UNLIMITED_MB, Room, Slot  # noqa: E402
from dicomnode.store import bundles, jobs, leases, runs, workers  # noqa: E402
from dicomnode.store.database import Database  # noqa: E402
from tests.harness.postgres import PostgresServer, postgres_programs, running_postgres  # noqa: E402
from tests.store.builders import complete_series, new_job  # noqa: E402

JOBS = 10_000
FINISHED = 1_000_000
SLOWER = 1.2
"""So much longer a claim may take for all that is finished."""
TURNS = 3


def measure(folder: Path, console: Console) -> Lines:  # noqa: ARG001  nothing is kept
    """The lines of this benchmark; jobs a second, higher is better."""
    if (programs := postgres_programs()) is None:
        console.print("job queue: not run here, there is no PostgreSQL")
        return {}
    lines: Lines = {}
    with running_postgres(programs, "-F") as server:
        for workers in (1, 4):
            lines |= _beside_others(server, workers, console)
        lines |= _beside_finished(server, console)
    return lines


def _beside_others(server: PostgresServer, workers: int, console: Console) -> Lines:
    """The median of several turns of each, taken in turns: the machine is the same for all."""
    rates: dict[str, list[float]] = {}
    for _ in range(TURNS):
        for name in SIDES:
            rates.setdefault(name, []).append(_rate(server, name, workers))
    median = {name: sorted(of)[len(of) // 2] for name, of in rates.items()}
    for name, of in median.items():
        console.print(f"job queue, {workers} worker(s), {name}: {of:.0f} jobs/s")
    theirs = max(median["procrastinate"], median["pgqueuer"])
    line = higher(median["dicomnode"], theirs, "jobs/s", 1.0)
    in_tens = higher(median["dicomnode"], median["pgqueuer in tens"], "jobs/s")
    return {
        f"job queue: {workers} worker(s), beside the better of two": line,
        f"job queue: {workers} worker(s), beside pgqueuer in tens": in_tens,
    }


def _beside_finished(server: PostgresServer, console: Console) -> Lines:
    full, empty = [], []
    with _database(server) as few, _database(server, FINISHED) as many:
        for _ in range(TURNS):
            empty.append(JOBS / _run(few, "dicomnode", 4))
            full.append(JOBS / _run(many, "dicomnode", 4))
    ours, theirs = sorted(full)[TURNS // 2], sorted(empty)[TURNS // 2]
    console.print(f"job queue, 4 workers, {FINISHED} finished jobs: {ours:.0f} jobs/s, none: {theirs:.0f}")
    seconds = lower(JOBS / ours, JOBS / theirs, "s", SLOWER)
    return {"job queue: 10,000 jobs with 1,000,000 finished, beside none": seconds}


class _database:  # noqa: N801  used as a function
    """A database of its own on the server; with so many finished jobs where that is wanted."""

    _made = 0

    def __init__(self, server: PostgresServer, finished: int = 0) -> None:
        self._server, self._finished = server, finished
        _database._made += 1
        self._name = f"bench_{_database._made}"

    def __enter__(self) -> str:
        self._server.execute("CREATE DATABASE {}", self._name)
        url = self._server.url(self._name)
        if self._finished:
            _fill_finished(url, self._finished)
        return url

    def __exit__(self, *_: object) -> None:
        self._server.execute("DROP DATABASE {} WITH (FORCE)", self._name)


def _rate(server: PostgresServer, name: str, workers: int) -> float:
    with _database(server) as url:
        return JOBS / _run(url, name, workers)


def _run(url: str, name: str, workers: int) -> float:
    """Seconds from the start signal until the last worker has found the queue empty."""
    SIDES[name][0](url)
    with psycopg.connect(_dsn(url), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    command = [sys.executable, __file__, name, url]
    processes = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in range(workers)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
    started = time.monotonic()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    ended = [process.wait() for process in processes]
    seconds = time.monotonic() - started
    assert ended == [0] * workers, ended
    return seconds


def _dsn(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")


def _fill_ours(url: str) -> None:
    database = Database(url)
    database.upgrade()
    with database.read() as tx:
        known = tx.exec_driver_sql("SELECT count(*) FROM job").scalar_one()
    if not known:
        completion_id = complete_series(database)
        with database.begin() as tx:
            new_job(tx, completion_id, "the first")
            jobs.cancel(tx, 1, "a pattern for the others")
    with database.begin() as tx:
        _copy(tx, JOBS, "ready")
    database.close()


def _fill_finished(url: str, count: int) -> None:
    database = Database(url)
    database.upgrade()
    completion_id = complete_series(database)
    with database.begin() as tx:
        new_job(tx, completion_id, "the first")
        jobs.cancel(tx, 1, "a pattern for the others")
        _copy(tx, count, "done")
        tx.exec_driver_sql(
            "INSERT INTO run (job_id, fence, worker, started_at, ended_at, outcome, timings, pipeline, route)"
            " SELECT id, 1, 'w', created_at, updated_at, 'done', '{}', pipeline, route FROM job"
        )
        tx.exec_driver_sql(
            "INSERT INTO job_event (job_id, event, state, fence, at, reported)"
            " SELECT id, 'finish', 'done', 1, updated_at, true FROM job"
        )
    database.close()


def _copy(tx: object, count: int, state: str) -> None:
    """Jobs as the first one, in one statement."""
    columns = (
        "completion_id, series_id, generation, input_digest, route, pipeline, pipeline_version,"
        " pipeline_digest, priority, send_to, fence, attempt, not_before, created_at, updated_at, urgent_at"
    )
    tx.exec_driver_sql(  # type: ignore[attr-defined]
        f"INSERT INTO job (key, state, {columns})"  # noqa: S608  fixed names
        f" SELECT md5(random()::text || n::text), '{state}', {columns}"
        f" FROM job, generate_series(1, {count}) AS n WHERE id = 1"
    )


def _work_ours(url: str, number: int) -> None:
    database, name, digest = Database(url), f"worker-{number}", "d"
    slot = Slot(name, "here", "cpu", Room(1000, UNLIMITED_MB), ("cpu",))
    with database.begin() as tx:
        bundles.declare(tx, digest, 0, 0)
        workers.begin(tx, name, slot)
        first = leases.next_up(tx, name)
    _wait_for_go()
    warm = False
    while True:
        job = None
        if warm:
            with database.at_once() as tx:
                job = leases.claim_at_home(tx, name, 30.0)
        if job is None:
            with database.begin() as tx:
                job = leases.claim(tx, name, 30.0, (), slot, first, digest if warm else None)
        if job is None:
            return
        warm = True
        with database.begin() as tx:
            leases.finish(tx, job.lease, [])
            runs.add(tx, job, name, "done", {})


def _procrastinate(url: str) -> procrastinate.App:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=_dsn(url)))

    @app.task(name="nothing")
    async def nothing() -> None:
        return

    return app


def _fill_procrastinate(url: str) -> None:
    async def fill() -> None:
        app = _procrastinate(url)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            for _ in range(JOBS // 1000):
                await app.tasks["nothing"].batch_defer_async(*({} for _ in range(1000)))

    asyncio.run(fill())


def _work_procrastinate(url: str, number: int) -> None:
    async def work() -> None:
        app = _procrastinate(url)
        async with app.open_async():
            await app.check_connection_async()
            _wait_for_go()
            await app.run_worker_async(wait=False, name=f"w{number}", install_signal_handlers=False)

    asyncio.run(work())


def _fill_pgqueuer(url: str) -> None:
    import asyncpg
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.queries import Queries

    async def fill() -> None:
        connection = await asyncpg.connect(_dsn(url))
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        for _ in range(JOBS // 1000):
            await queries.enqueue(["nothing"] * 1000, [None] * 1000, [0] * 1000)
        await connection.close()

    asyncio.run(fill())


def _work_pgqueuer(url: str, number: int, batch: int = 1) -> None:  # noqa: ARG001  as the others
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.types import QueueExecutionMode

    async def work() -> None:
        connection = await asyncpg.connect(_dsn(url))
        queue = PgQueuer(AsyncpgDriver(connection))

        @queue.entrypoint("nothing")
        async def nothing(job: object) -> None:  # noqa: ARG001  as pgqueuer calls it
            return

        _wait_for_go()
        await queue.qm.run(
            batch_size=batch, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(seconds=1)
        )
        await connection.close()

    asyncio.run(work())


def _wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


SIDES: dict[str, tuple[Callable[[str], None], Callable[[str, int], None]]] = {
    "dicomnode": (_fill_ours, _work_ours),
    "procrastinate": (_fill_procrastinate, _work_procrastinate),
    "pgqueuer": (_fill_pgqueuer, _work_pgqueuer),
    "pgqueuer in tens": (_fill_pgqueuer, lambda url, number: _work_pgqueuer(url, number, 10)),
}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        SIDES[sys.argv[1]][1](sys.argv[2], int(sys.argv[3]))
    else:
        for line, values in measure(ROOT / "build" / "bench", Console()).items():
            print(line, values)
