"""Storage commitment transactions: a report has one owner at a time, and none is forgotten."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import select, update

from dicomnode.errors import DuplicateTransaction, LeaseLost, NotFound
from dicomnode.model.commitment import CommitmentRequest, CommitmentState, Reference
from dicomnode.store import catalog, commitments, deliveries
from dicomnode.store.clock import Now
from dicomnode.store.database import Database
from dicomnode.store.schema import commitment, commitment_event, commitment_instance, instance
from tests.store.builders import arrival, finished_job

MR = "1.2.840.10008.5.1.4.1.1.4"
REFERENCES = [Reference(MR, f"1.2.3.4.{number}") for number in (1, 2)]
REQUEST = CommitmentRequest("2.25.1", REFERENCES)


def received(database: Database, hold_s: float = 0.0, peer: str = "CT1") -> int:
    with database.begin() as tx:
        return commitments.receive(tx, peer, REQUEST, hold_s)


def only(database: Database, column=commitment.c.state) -> object:
    with database.read() as tx:
        return tx.execute(select(column)).scalar_one()


def test_a_report_is_claimed_by_one_once_it_is_due(database):
    received(database)
    with database.begin() as tx:
        (owed,) = commitments.claim(tx, 30)
        assert commitments.claim(tx, 30) == []
    assert (owed.peer, owed.attempt, owed.request) == ("CT1", 1, REQUEST)


def test_what_the_receiver_holds_is_claimed_by_its_id_alone(database):
    held = received(database, hold_s=60)
    with database.begin() as tx:
        assert commitments.claim(tx, 30) == []
        assert commitments.claim_one(tx, held, 30) is not None
        assert commitments.claim_one(tx, held, 30) is None


def test_a_dead_owners_report_goes_to_the_next_and_its_own_writes_find_nothing(database):
    received(database)
    with database.begin() as tx:
        (lost,) = commitments.claim(tx, lease_s=-1)
        assert commitments.expire(tx) == 1
        (owed,) = commitments.claim(tx, 30)
    for write in (commitments.reported, commitments.hand_back):
        with pytest.raises(LeaseLost), database.begin() as tx:
            write(tx, lost.lease)
    with pytest.raises(LeaseLost), database.begin() as tx:
        commitments.note_outcomes(tx, lost.lease, {})
    with database.begin() as tx:
        commitments.reported(tx, owed.lease)
    assert only(database) == CommitmentState.REPORTED


def test_a_report_that_nobody_takes_is_tried_until_it_is_too_old(database):
    received(database)
    with database.begin() as tx:
        (owed,) = commitments.claim(tx, 30)
        assert commitments.fail(tx, owed.lease, "away", wait_s=0, give_up_after_s=60) == "retry_wait"
        (owed,) = commitments.claim(tx, 30)
        assert owed.attempt == 2
        assert commitments.fail(tx, owed.lease, "away", wait_s=0, give_up_after_s=-1) == "dead"
        assert commitments.claim(tx, 30) == []


def test_a_request_that_comes_again_opens_a_report_that_was_over(database):
    first = received(database)
    with database.begin() as tx:
        (owed,) = commitments.claim(tx, 30)
        commitments.reported(tx, owed.lease)
    assert received(database) == first
    assert only(database) == CommitmentState.REQUESTED
    with pytest.raises(DuplicateTransaction), database.begin() as tx:
        commitments.receive(tx, "CT1", CommitmentRequest("2.25.1", REFERENCES[:1]), 0)
    assert received(database, peer="CT2") != first


def test_what_will_be_said_of_each_instance_is_written_down(database):
    received(database)
    with database.begin() as tx:
        (owed,) = commitments.claim(tx, 30)
        commitments.note_outcomes(tx, owed.lease, {REFERENCES[1]: 0x0112})
        said = dict(
            tx.execute(
                select(commitment_instance.c.SOPInstanceUID, commitment_instance.c.failure_reason)
            ).all()
        )
    assert said == {"1.2.3.4.1": commitments.COMMITTED, "1.2.3.4.2": 0x0112}


def asked(database: Database, limit_s: float = 60.0) -> tuple[int, list]:
    finished_job(database, results=2)
    with database.begin() as tx:
        for delivery in deliveries.claim(tx, "pacs", 30, str):
            deliveries.accept(tx, delivery.lease, check_after_s=0)
        sent = deliveries.claim_checks(tx, "pacs", 30, 900, str)
        return commitments.ask(tx, "pacs", "2.25.7", sent, limit_s), sent


def test_a_report_names_the_deliveries_under_the_leases_of_the_question_and_only_once(database):
    _, sent = asked(database)
    outcomes = {Reference(each.instance.SOPClassUID, each.instance.SOPInstanceUID): 0 for each in sent}
    with database.begin() as tx:
        assert commitments.take_report(tx, "2.25.7", outcomes) == {each.lease: 0 for each in sent}
        assert commitments.take_report(tx, "2.25.7", outcomes) == {}
        with pytest.raises(NotFound):
            commitments.take_report(tx, "2.25.8", outcomes)


def test_what_a_report_says_of_other_instances_or_classes_is_not_heard(database):
    _, sent = asked(database)
    wrong = {Reference(MR, sent[0].instance.SOPInstanceUID): 0, Reference(MR, "1.2.3"): 0}
    with database.begin() as tx:
        assert commitments.take_report(tx, "2.25.7", wrong) == {}


@pytest.mark.parametrize("refusal", [None, "status 0x0213"])
def test_a_report_is_heard_whenever_it_comes(database, refusal):
    commitment_id, sent = asked(database, limit_s=-1)
    with database.begin() as tx:
        assert commitments.note_answer(tx, commitment_id, refusal)
        assert commitments.expire(tx) == (1 if refusal is None else 0)
        outcomes = {Reference(each.instance.SOPClassUID, each.instance.SOPInstanceUID): 0 for each in sent}
        assert len(commitments.take_report(tx, "2.25.7", outcomes)) == 2
        assert not commitments.note_answer(tx, commitment_id, None)
    assert only(database) == CommitmentState.REPORTED


def test_every_transition_is_recorded(database):
    received(database)
    with database.begin() as tx:
        (owed,) = commitments.claim(tx, 30)
        commitments.hand_back(tx, owed.lease)
        events = Counter(tx.execute(select(commitment_event.c.event)).scalars())
    assert events == {"create": 1, "claim": 1, "hand_back": 1}
    assert only(database, commitment.c.attempt) == 0


def test_objects_that_retention_let_go_are_not_held(database):
    with database.begin() as tx:
        for number in (1, 2):
            catalog.add_instance(tx, arrival(number))
        tx.execute(update(instance).where(instance.c.SOPInstanceUID == "1.2.3.4.2").values(released_at=Now()))
        held = commitments.held_objects(tx, ["1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3"])
    assert held == {"1.2.3.4.1": [(MR, arrival(1).stored.sha256)]}
