"""What was announced for a series, and what that completes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from dicomnode.errors import DuplicateStep, NoSuchStep, StepIsOver
from dicomnode.model.announcement import Announcement, StepReport, StepState
from dicomnode.model.instance import CompletionReason
from dicomnode.store import announcements, catalog, completions, overview
from dicomnode.store.clock import Now
from dicomnode.store.database import Database
from dicomnode.store.schema import announced, performed_step

from .builders import arrival

LONG = 3600.0
SERIES = "1.2.3.4"
STEP = "1.2.840.1"


def uids(*numbers: int) -> frozenset[str]:
    return frozenset(f"{SERIES}.{number}" for number in numbers)


def announce(database: Database, *numbers: int, gone: frozenset[str] = frozenset()) -> None:
    with database.begin() as tx:
        announcements.add(tx, Announcement({SERIES: uids(*numbers)}, {SERIES: gone}))


def add(database: Database, *numbers: int) -> None:
    with database.begin() as tx:
        for number in numbers:
            catalog.add_instance(tx, replace(arrival(number)))


def complete(database: Database) -> list[str]:
    with database.begin() as tx:
        return completions.complete_announced(tx)


def complete_due(database: Database, missing_wait_s: float = 0):
    with database.begin() as tx:
        return completions.complete_due(tx, 0, missing_wait_s, listened_s=LONG)


def completions_of(database: Database) -> list[dict]:
    with database.read() as tx:
        (study,) = overview.studies(tx, None)
    return study["series"][0]["completions"]


@pytest.mark.parametrize("first", ["announced", "arrived"])
def test_a_series_that_has_what_was_announced_is_complete_at_once(database: Database, first):
    if first == "announced":
        announce(database, 1, 2)
    add(database, 1, 2)
    if first == "arrived":
        assert complete(database) == []
        announce(database, 1, 2)
    assert complete(database) == [SERIES]
    assert complete(database) == []
    (completion,) = completions_of(database)
    assert completion["reason"] == CompletionReason.ANNOUNCED
    assert completion["note"] == "these 2 instances were announced"


def test_what_was_announced_and_is_not_here_is_waited_for_and_then_named(database: Database):
    announce(database, 1, 2, 3)
    add(database, 1, 2)
    assert complete(database) == []
    assert complete_due(database, missing_wait_s=LONG) == []
    assert complete_due(database) == [(SERIES, CompletionReason.MISSING)]
    assert completions_of(database)[0]["note"] == "1 announced instances are not here"


def test_as_many_instances_but_others_are_not_what_was_announced(database: Database):
    announce(database, 1, 3)
    add(database, 1, 2)
    assert complete(database) == []


def test_more_than_was_announced_waits_for_the_silence(database: Database):
    announce(database, 1)
    add(database, 1, 2)
    assert complete(database) == []
    assert complete_due(database) == [(SERIES, CompletionReason.QUIET)]


def test_announcements_of_one_series_add_up(database: Database):
    announce(database, 1, 2)
    announce(database, 2, 3)
    add(database, 1, 2)
    assert complete(database) == []
    add(database, 3)
    assert complete(database) == [SERIES]


def test_what_is_no_longer_available_is_not_waited_for(database: Database):
    announce(database, 1, 2)
    announce(database, gone=uids(2))
    add(database, 1)
    assert complete(database) == [SERIES]


def test_a_series_that_was_not_announced_is_left_alone(database: Database):
    add(database, 1)
    assert complete(database) == []


def test_old_announcements_are_forgotten(database: Database):
    announce(database, 1, 2)
    with database.begin() as tx:
        tx.execute(update(announced).values(at=Now(-announcements.KEPT_S - 1)))
    announce(database, 3)
    with database.read() as tx:
        assert tx.execute(select(func.count()).select_from(announced)).scalar_one() == 1


def report(state: StepState | None, *numbers: int, step: str = STEP) -> StepReport:
    return StepReport(step, state, {SERIES: uids(*numbers)} if numbers else None)


def test_a_step_announces_what_it_made_once_it_is_completed(database: Database):
    with database.begin() as tx:
        announcements.create_step(tx, report(StepState.IN_PROGRESS))
        assert announcements.modify_step(tx, report(None, 1, 2)) is None
        made = announcements.modify_step(tx, report(StepState.COMPLETED))
    assert made == Announcement({SERIES: uids(1, 2)}, {})


def test_a_discontinued_step_announces_nothing(database: Database):
    with database.begin() as tx:
        announcements.create_step(tx, report(StepState.IN_PROGRESS))
        assert announcements.modify_step(tx, report(StepState.DISCONTINUED, 1)) is None


def test_a_step_is_created_once_and_ends_once(database: Database):
    with database.begin() as tx:
        announcements.create_step(tx, report(StepState.IN_PROGRESS))
        with pytest.raises(DuplicateStep):
            announcements.create_step(tx, report(StepState.IN_PROGRESS))
        with pytest.raises(NoSuchStep):
            announcements.modify_step(tx, report(None, step="9.9"))
        announcements.modify_step(tx, report(StepState.COMPLETED, 1))
        with pytest.raises(StepIsOver):
            announcements.modify_step(tx, report(StepState.COMPLETED, 1))
        tx.execute(update(performed_step).values(updated_at=Now(-announcements.KEPT_S - 1)))
        announcements.create_step(tx, report(StepState.IN_PROGRESS, step="9.9"))
        with pytest.raises(NoSuchStep):
            announcements.modify_step(tx, report(None))
