"""A delivery is sent until the destination lists it, under a lease, with an event for each move."""

from __future__ import annotations

import pytest

from dicomnode.errors import IllegalTransition, LeaseLost
from dicomnode.model.delivery import DeliveryState
from dicomnode.store import deliveries, overview
from dicomnode.store.database import Database

from .builders import finished_job


def claim(database: Database, lease_s: float = 30):
    with database.begin() as tx:
        return deliveries.claim(tx, "pacs", lease_s, lambda digest: f"/objects/{digest}")


def states(database: Database) -> list[str]:
    with database.read() as tx:
        return [record["state"] for record in overview.deliveries(tx)]


@pytest.fixture
def delivery(database: Database):
    finished_job(database)
    (claimed,) = claim(database)
    return claimed


def test_what_is_due_is_claimed_once_oldest_first(database: Database):
    finished_job(database, results=3)
    claimed = claim(database)
    assert [d.instance.SOPInstanceUID for d in claimed] == ["2.25.1.1", "2.25.2.1", "2.25.3.1"]
    assert claimed[0].instance.path == f"/objects/{1:064x}"
    assert claim(database) == []


def test_accepted_is_not_confirmed_until_the_destination_lists_it(database: Database, delivery):
    with database.begin() as tx:
        deliveries.accept(tx, delivery.lease, check_after_s=0)
    assert states(database) == [DeliveryState.SENT]
    with database.begin() as tx:
        (check,) = deliveries.claim_checks(tx, "pacs", 30, 30, str)
        assert deliveries.claim_checks(tx, "pacs", 30, 30, str) == []
        deliveries.confirm(tx, check.lease)
    assert states(database) == [DeliveryState.CONFIRMED]


def test_what_the_destination_does_not_list_after_some_questions_is_sent_again(database: Database, delivery):
    with database.begin() as tx:
        deliveries.accept(tx, delivery.lease, check_after_s=0)
    for asked, again in ((1, False), (2, True)):
        with database.begin() as tx:
            (check,) = deliveries.claim_checks(tx, "pacs", 0, 0, str)
            assert deliveries.miss(tx, check.lease, 2, wait_s=0, give_up_after_s=60) is again, asked
    (repeated,) = claim(database)
    assert (repeated.id, repeated.attempt) == (delivery.id, 2)
    assert repeated.instance == delivery.instance


def test_the_first_answers_do_not_count_and_the_next_question_follows_soon(database: Database, delivery):
    with database.begin() as tx:
        deliveries.accept(tx, delivery.lease, check_after_s=0)
        for soon in (0, 3600):
            (check,) = deliveries.claim_checks(tx, "pacs", 3600, 3600, str)
            assert not deliveries.miss(tx, check.lease, 1, wait_s=0, give_up_after_s=60, soon_s=(0, soon))
        assert deliveries.claim_checks(tx, "pacs", 0, 0, str) == []
    assert states(database) == [DeliveryState.SENT]


def test_a_failed_sending_waits_and_is_never_forgotten(database: Database, delivery):
    with database.begin() as tx:
        deliveries.fail(tx, delivery.lease, "no association", wait_s=3600, give_up_after_s=7200)
    assert claim(database) == []
    assert states(database) == [DeliveryState.RETRY_WAIT]


def test_a_delivery_that_failed_for_too_long_is_dead_until_the_administrator_retries_it(
    database: Database, delivery
):
    with database.begin() as tx:
        state = deliveries.fail(tx, delivery.lease, "no association", wait_s=0, give_up_after_s=-1)
        assert state is DeliveryState.DEAD
        deliveries.retry(tx, delivery.id)
    assert [d.id for d in claim(database)] == [delivery.id]


def test_a_sender_that_died_loses_its_lease_and_its_late_word_is_discarded(database: Database):
    finished_job(database)
    (stale,) = claim(database, lease_s=-1)
    with database.begin() as tx:
        assert deliveries.expire(tx) == [stale.id]
    (fresh,) = claim(database)
    assert fresh.fence > stale.fence
    with pytest.raises(LeaseLost), database.begin() as tx:
        deliveries.accept(tx, stale.lease, check_after_s=0)


def test_a_delivery_that_is_handed_back_has_not_been_tried(database: Database, delivery):
    with database.begin() as tx:
        deliveries.hand_back(tx, delivery.lease)
    assert [d.attempt for d in claim(database)] == [1]


def test_a_confirmed_delivery_cannot_be_sent_again(database: Database, delivery):
    with database.begin() as tx:
        deliveries.accept(tx, delivery.lease, check_after_s=0)
        (check,) = deliveries.claim_checks(tx, "pacs", 30, 30, str)
        deliveries.confirm(tx, check.lease)
    with pytest.raises(IllegalTransition), database.begin() as tx:
        deliveries.retry(tx, delivery.id)


def test_what_the_destination_never_lists_is_dead_in_the_end(database: Database, delivery):
    with database.begin() as tx:
        deliveries.accept(tx, delivery.lease, check_after_s=0)
        (check,) = deliveries.claim_checks(tx, "pacs", 0, 0, str)
        assert deliveries.miss(tx, check.lease, 1, wait_s=0, give_up_after_s=-1)
    assert states(database) == [DeliveryState.DEAD]


def test_questions_without_an_answer_do_not_send_anything_again(database: Database, delivery):
    with database.begin() as tx:
        deliveries.accept(tx, delivery.lease, check_after_s=0)
        for _ in range(3):
            (check,) = deliveries.claim_checks(tx, "pacs", 0, 0, str)
            assert not deliveries.give_up_if_old(tx, check.lease, "no association", 3600)
        assert not deliveries.miss(tx, check.lease, 2, wait_s=0, give_up_after_s=3600)
    assert states(database) == [DeliveryState.SENT]


def test_a_newer_generation_stops_what_was_not_sent_and_leaves_what_is_on_its_way(database: Database):
    job = finished_job(database, results=2)
    with database.begin() as tx:
        (on_its_way,) = deliveries.claim(tx, "pacs", 30, str, limit=1)
        assert deliveries.supersede(tx, job.series_id, 1, job.pipeline) == []
        (stopped,) = deliveries.supersede(tx, job.series_id, 2, job.pipeline)
    assert stopped != on_its_way.id
    assert claim(database) == []
    with database.begin() as tx:
        deliveries.accept(tx, on_its_way.lease, check_after_s=0)
    assert sorted(states(database)) == [DeliveryState.SENT, DeliveryState.SUPERSEDED]


def test_what_waits_for_a_destination_that_is_no_more_is_counted_by_its_name(database: Database):
    finished_job(database, results=3)
    with database.read() as tx:
        assert deliveries.stranded(tx, ["pacs"]) == {}
        assert deliveries.stranded(tx, ["other"]) == {"pacs": 3}
