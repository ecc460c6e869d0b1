"""What the archive is asked about silent series, and what its answers complete."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from dicomnode.errors import LeaseLost
from dicomnode.model.inquiry import Inquiry, InquiryState
from dicomnode.model.instance import AssociationFacts, CompletionReason
from dicomnode.store import catalog, completions, inquiries, overview
from dicomnode.store.clock import Now
from dicomnode.store.database import Database
from dicomnode.store.schema import inquiry, series

from .builders import arrival

LONG = 3600.0
SERIES = "1.2.3.4"


def add(database: Database, *numbers: int, **changes: object) -> None:
    with database.begin() as tx:
        for number in numbers:
            catalog.add_instance(tx, replace(arrival(number), **changes))


def uids(*numbers: int) -> frozenset[str]:
    return frozenset(f"{SERIES}.{number}" for number in numbers)


def open_due(database: Database, quiet_s: float = 0, listened_s: float = LONG) -> int:
    with database.begin() as tx:
        return inquiries.open_due(tx, quiet_s, listened_s)


def claim(database: Database, lease_s: float = LONG) -> Inquiry | None:
    with database.begin() as tx:
        return inquiries.claim(tx, lease_s)


def ask(database: Database) -> Inquiry:
    open_due(database)
    found = claim(database)
    assert found is not None
    return found


def settle(database: Database, asked: Inquiry, listed: frozenset[str], problem: str = ""):
    with database.begin() as tx:
        return inquiries.settle(tx, asked, listed, "pacs", problem, 0)


def give_up(database: Database, limit_s: float = 0, listened_s: float = LONG) -> int:
    with database.begin() as tx:
        return inquiries.give_up(tx, limit_s, listened_s, "pacs")


def complete_due(database: Database, quiet_s: float = 0, missing_wait_s: float = 0, *, ask: bool = True):
    with database.begin() as tx:
        return completions.complete_due(tx, quiet_s, missing_wait_s, listened_s=LONG, ask=ask)


def completions_of(database: Database) -> list[dict]:
    with database.read() as tx:
        (study,) = overview.studies(tx, None)
    return study["series"][0]["completions"]


def test_silence_completes_nothing_before_the_archive_was_asked(database: Database):
    add(database, 1, 2)
    assert complete_due(database) == []
    assert open_due(database, quiet_s=LONG) == 0
    assert open_due(database, quiet_s=0.5, listened_s=0.1) == 0
    assert open_due(database) == 1
    assert complete_due(database) == []
    assert open_due(database) == 0


def test_where_nobody_is_asked_silence_is_enough(database: Database):
    add(database, 1)
    assert complete_due(database, ask=False) == [(SERIES, CompletionReason.QUIET)]


def test_a_series_that_is_what_the_archive_lists_is_complete_at_once(database: Database):
    add(database, 1, 2)
    assert settle(database, ask(database), uids(1, 2)) is InquiryState.LISTED
    (completion,) = completions_of(database)
    assert completion["reason"] == CompletionReason.LISTED
    assert completion["note"] == "pacs lists these 2 instances"


def test_a_number_that_the_headers_tell_needs_no_archive(database: Database):
    add(database, 1, expected_instances=1)
    assert open_due(database) == 0
    assert complete_due(database, quiet_s=LONG) == [(SERIES, CompletionReason.EXPECTED)]


def test_while_instances_are_missing_it_is_asked_again_and_what_came_completes_the_series(database: Database):
    add(database, 1, 2)
    assert settle(database, ask(database), uids(1, 2, 3)) is InquiryState.ASKING
    assert complete_due(database) == []
    add(database, 3)
    again = claim(database)
    assert again is not None
    assert settle(database, again, uids(1, 2, 3)) is InquiryState.LISTED
    assert completions_of(database)[0]["note"] == "pacs lists these 3 instances, 1 of which were fetched"


def test_an_archive_that_does_not_give_is_given_up_and_the_completion_says_what_is_missing(
    database: Database,
):
    add(database, 1, 2)
    settle(database, ask(database), uids(1, 2, 3, 4), "the peer refused")
    assert give_up(database, limit_s=LONG) == 0
    assert give_up(database, limit_s=0.5, listened_s=0.1) == 0
    assert give_up(database) == 1
    assert complete_due(database, missing_wait_s=LONG) == []
    assert complete_due(database) == [(SERIES, CompletionReason.MISSING)]
    note = "pacs lists 4 instances, 2 of which are not here: the peer refused"
    assert completions_of(database)[0]["note"] == note


def test_an_archive_that_could_not_be_asked_holds_nothing_up_for_longer_than_the_limit(database: Database):
    add(database, 1)
    with database.begin() as tx:
        inquiries.postpone(tx, ask_in(tx), "pacs could not be asked: nobody there", LONG)
    assert complete_due(database) == []
    assert give_up(database) == 1
    assert complete_due(database) == [(SERIES, CompletionReason.QUIET)]
    assert completions_of(database)[0]["note"] == "pacs could not be asked: nobody there"


def ask_in(tx) -> Inquiry:
    inquiries.open_due(tx, 0, LONG)
    found = inquiries.claim(tx, LONG)
    assert found is not None
    return found


def test_a_question_that_nobody_took_up_is_given_up_too(database: Database):
    add(database, 1)
    open_due(database)
    assert give_up(database) == 1
    complete_due(database)
    assert completions_of(database)[0]["note"] == "pacs did not answer in time"


@pytest.mark.parametrize("listed", [uids(), uids(1)])
def test_an_archive_that_lists_less_than_is_here_leaves_it_to_the_silence(database: Database, listed):
    add(database, 1, 2)
    assert settle(database, ask(database), listed) is InquiryState.ANSWERED
    assert complete_due(database, quiet_s=LONG) == []
    assert complete_due(database) == [(SERIES, CompletionReason.QUIET)]
    assert completions_of(database)[0]["note"] == f"pacs lists {len(listed)} of these 2 instances"


def test_an_answer_is_good_for_the_instances_that_were_here(database: Database):
    add(database, 1)
    settle(database, ask(database), uids())
    add(database, 2)
    assert complete_due(database) == []
    assert open_due(database) == 1


def test_a_later_generation_is_asked_about_anew(database: Database):
    add(database, 1)
    settle(database, ask(database), uids(1))
    add(database, 2)
    assert settle(database, ask(database), uids(1, 2)) is InquiryState.LISTED
    assert [each["generation"] for each in completions_of(database)] == [1, 2]


def test_an_answer_comes_too_late_for_what_an_administrator_completed(database: Database):
    add(database, 1)
    asked = ask(database)
    with database.begin() as tx:
        completions.complete_ordered(tx, SERIES)
    assert settle(database, asked, uids(1)) is None
    assert give_up(database) == 0
    add(database, 2)
    assert claim(database, 0) is None
    assert open_due(database) == 1
    assert len(completions_of(database)) == 1


def test_a_question_is_one_owners_until_its_lease_ends(database: Database):
    add(database, 1)
    asked = ask(database)
    assert claim(database) is None
    with database.begin() as tx:
        inquiries.extend(tx, asked, 0)
    assert claim(database) == asked
    give_up(database)
    with database.begin() as tx, pytest.raises(LeaseLost):
        inquiries.extend(tx, asked, LONG)


def test_rules_see_who_sent_the_series_and_not_the_archive_that_filled_it_up(database: Database):
    add(database, 1)
    asked = ask(database)
    add(database, 2, association=AssociationFacts("assoc-2", "PACS", "DICOMNODE", "127.0.0.1"))
    settle(database, asked, uids(1, 2))
    with database.begin() as tx:
        (completion,) = completions.unrouted(tx)
    assert completion.association.calling_ae == "CT1"
    assert completion.instance_count == 2


def test_a_node_that_was_down_asks_before_it_gives_up(database: Database):
    add(database, 1)
    open_due(database)
    with database.begin() as tx:
        tx.execute(update(inquiry).values(begun_at=Now(-LONG)))
        tx.execute(update(series).values(last_instance_at=Now(-LONG)))
    assert give_up(database, limit_s=60, listened_s=1) == 0
    with database.read() as tx:
        assert tx.execute(select(inquiry.c.state)).scalar_one() == InquiryState.ASKING
