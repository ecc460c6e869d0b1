"""The check of the books notices each fault that it is there to find: planted into books that are right."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select, update

from dicomnode.installation import Stores
from dicomnode.model.job import Job
from dicomnode.store import catalog, completions, deliveries, jobs, leases, runs
from dicomnode.store.clock import Now
from dicomnode.store.objects import ObjectStore
from dicomnode.store.part10 import file_head
from dicomnode.store.schema import delivery, instance, job, job_event, result
from dicomnode.store.schema import run as runs_table
from tests.faults.auditing import mistakes, unfinished
from tests.faults.memory import memory_folder
from tests.harness.schema import upgraded
from tests.store.builders import arrival, encoded, new_job

RECEIVED, MADE = "1.2.3.4.1", "2.25.1.1"
ATTEMPTS = 3


@dataclass
class Books:
    """One series whose job has ended in its second attempt, and what sender and archive wrote down."""

    stores: Stores
    acknowledged: dict[str, str] = field(default_factory=dict)
    archived: dict[str, list[str]] = field(default_factory=dict)

    def receive(self, series: str) -> int:
        """One instance is acknowledged, and its series complete; the id of the completion."""
        stored = self.stores.objects.put(series.encode())
        came = arrival(1, series, stored=stored)
        with self.stores.database.begin() as tx:
            catalog.add_instance(tx, came)
            completions.complete_ordered(tx, series)
            self.acknowledged[came.SOPInstanceUID] = stored.sha256
            return next(each.id for each in completions.unrouted(tx) if each.SeriesInstanceUID == series)

    def route(self, completion_id: int, key: str) -> int:
        """Its job is there."""
        with self.stores.database.begin() as tx:
            return new_job(tx, completion_id, key, route="toy")

    def routed(self, completion_id: int) -> None:
        """Nobody looks at the completion again."""
        with self.stores.database.begin() as tx:
            completions.mark_routed(tx, completion_id)

    def claim(self, worker: str) -> Job:
        """The job that waits is leased."""
        with self.stores.database.begin() as tx:
            claimed = leases.claim(tx, worker, 30.0)
            assert claimed is not None
            return claimed

    def lose(self, claimed: Job) -> None:
        """Its worker is not heard of again."""
        with self.stores.database.begin() as tx:
            tx.execute(update(job).where(job.c.id == claimed.id).values(lease_expires_at=Now(-1.0)))
            leases.expire(tx, ATTEMPTS)

    def end(self, claimed: Job) -> None:
        """It ends with one result, which the archive takes and lists."""
        made = self.stores.objects.put(file_head("1.2", MADE, "1.2.840.10008.1.2.1"), b"made of it")
        with self.stores.database.begin() as tx:
            (result_id,) = leases.finish(tx, claimed.lease, [(encoded(), made)])
            runs.add(tx, claimed, "w2", "done", {})
            deliveries.add(tx, result_id, "archive")
            (sending,) = deliveries.claim(tx, "archive", 30.0, Path)
            deliveries.accept(tx, sending.lease, check_after_s=0.0)
            deliveries.confirm(tx, sending.lease)
        self.archived[MADE] = [hashlib.sha256(b"made of it").hexdigest()]

    def mistakes(self) -> list[str]:
        return mistakes(self.stores, self.acknowledged, self.archived, ["toy"])


def stores_in(folder: Path) -> Stores:
    return Stores(upgraded(f"sqlite:///{folder / 'd.sqlite3'}"), ObjectStore(folder, 0))


@pytest.fixture(scope="module")
def right() -> Iterator[tuple[Path, Books]]:
    """Books that are right, and where they lie; each test has a copy."""
    with memory_folder() as folder:
        books = Books(stores_in(folder))
        completion_id = books.receive("1.2.3.4")
        books.route(completion_id, "first")
        books.routed(completion_id)
        books.lose(books.claim("w1"))
        books.end(books.claim("w2"))
        assert books.mistakes() == unfinished(books.stores) == []
        books.stores.database.close()
        yield folder, books


@pytest.fixture
def books(right: tuple[Path, Books]) -> Iterator[Books]:
    folder, made = right
    with memory_folder() as place:
        shutil.copytree(folder, place, dirs_exist_ok=True)
        books = Books(stores_in(place), dict(made.acknowledged), deepcopy(made.archived))
        yield books
        books.stores.database.close()


def sql(*statements: object) -> Callable[[Books], None]:
    """Rows as no function of the store would leave them."""

    def plant(books: Books) -> None:
        with books.stores.database.begin() as tx:
            for statement in statements:
                tx.execute(statement)

    return plant


def object_gone(books: Books) -> None:
    books.stores.objects.remove(books.acknowledged[RECEIVED])


def object_altered(books: Books) -> None:
    with Path(books.stores.objects.path(books.acknowledged[RECEIVED])).open("r+b") as file:
        file.write(b"!")


def another_content(books: Books) -> None:
    books.archived[MADE].append(hashlib.sha256(b"made once more").hexdigest())


def bytes_that_nobody_fixed(books: Books) -> None:
    books.archived[MADE] = [hashlib.sha256(b"made once more").hexdigest()] * 2


def result_gone(books: Books) -> None:
    with books.stores.database.read() as tx:
        books.stores.objects.remove(tx.execute(select(result.c.sha256)).scalar_one())


def nobodys_result(books: Books) -> None:
    books.archived["2.25.99"] = ["0" * 64]


def never_archived(books: Books) -> None:
    books.archived.clear()


def no_job(books: Books) -> None:
    books.routed(books.receive("1.2.3.5"))


def two_jobs(books: Books) -> None:
    completion_id = books.receive("1.2.3.5")
    books.route(completion_id, "one")
    books.route(completion_id, "other")
    books.routed(completion_id)


def late_word(event: str, state: str, fence: int) -> Callable[[Books], None]:
    """The event of a worker whose lease was over, written as if nobody had looked at the fence."""
    return sql(insert(job_event).values(job_id=1, event=event, state=state, fence=fence, at=Now()))


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (object_gone, f"instance {RECEIVED} was acknowledged and its bytes are gone or altered"),
        (object_altered, f"instance {RECEIVED} was acknowledged and its bytes are gone or altered"),
        (sql(delete(instance)), f"instance {RECEIVED} was acknowledged and has no row"),
        (another_content, f"result {MADE} was archived with 2 contents"),
        (bytes_that_nobody_fixed, f"result {MADE} was archived with other bytes than were fixed"),
        (result_gone, f"result {MADE} was made and its bytes are gone or altered"),
        (nobodys_result, "2.25.99 was archived and is no result of any job"),
        (never_archived, f"result {MADE} counts as delivered, and the archive has never taken it"),
        (no_job, "series 2 has 0 jobs of generation 1 for route 'toy'"),
        (two_jobs, "series 2 has 2 jobs of generation 1 for route 'toy'"),
        (late_word("fail", "retry_wait", 1), "job 1: fail under the stale fence 1, after 3"),
        (late_word("finish", "done", 3), "job 1: finish from done to done"),
        (sql(update(result).values(fence=1)), f"result {MADE} is of fence 1, its job ended under 3"),
        (sql(update(job).values(state="ready")), "job 1 is ready (3), its events left it done (3)"),
        (
            sql(update(delivery).values(fence=7)),
            "delivery 1 is confirmed (7), its events left it confirmed (1)",
        ),
    ],
)
def test_what_is_planted_into_the_books_is_found(
    books: Books, plant: Callable[[Books], None], found: str
) -> None:
    plant(books)
    assert found in books.mistakes()


def test_a_run_that_was_counted_twice_is_found(books: Books) -> None:
    with books.stores.database.begin() as tx:
        runs.add(tx, jobs.get(tx, 1), "w1", "done", {})
        assert tx.execute(select(func.count()).select_from(runs_table)).scalar_one() == 2
    assert books.mistakes() == ["job 1 has 2 runs that are done"]


def test_what_is_still_at_work_is_no_mistake_and_is_not_finished(books: Books) -> None:
    books.route(books.receive("1.2.3.5"), "second")
    books.claim("w1")
    assert books.mistakes() == ["series 2 has 1 jobs of generation 1 for route 'toy'"]
    assert unfinished(books.stores) == ["job 2 is leased by w1", "completion 2 is not routed"]
    books.routed(2)
    assert books.mistakes() == []
