"""The seconds by stage cover the whole way, from the first instance to the last confirmation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dicomnode.demo.journey import Delivered, Journey, Run, stages
from dicomnode.model.delivery import DeliveryState
from dicomnode.model.job import JobState


def at(seconds: float) -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def delivered(role: str, sent_at: float, confirmed_at: float) -> Delivered:
    return Delivered(
        role=role,
        SOPClassUID="1.2",
        SOPInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.4",
        state=DeliveryState.CONFIRMED,
        reason=None,
        created_at=at(30),
        sent_at=at(sent_at),
        confirmed_at=at(confirmed_at),
    )


ARRIVED = Journey(
    received=197,
    first_instance_at=at(0),
    last_instance_at=at(2),
    completed_at=at(5),
    job_state=JobState.DONE,
    results=(delivered("SEG", 31, 33), delivered("SR", 32, 34)),
    run=Run(at(6), at(30), {"decode": 1.0, "forward": 20.0}),
)


def test_stages_add_up_to_the_whole_way():
    seconds = dict(stages(ARRIVED))
    assert sum(seconds.values()) == pytest.approx(34)
    assert seconds["receive"] == 2
    assert seconds["wait until complete"] == 3
    assert seconds["forward"] == 20
    assert (seconds["deliver"], seconds["confirm"]) == (2, 2)


def test_a_series_that_still_arrives_has_its_first_stage_only():
    arriving = replace(ARRIVED, completed_at=None, results=(), run=None)
    assert dict(stages(arriving)) == {"receive": 2}


def test_sent_is_not_confirmed():
    seg, sr = ARRIVED.results
    halfway = replace(ARRIVED, results=(seg, replace(sr, state=DeliveryState.SENT, confirmed_at=None)))
    assert (halfway.sent, halfway.confirmed) == (2, 1)


def test_what_waits_for_its_next_sending_says_why():
    seg, sr = ARRIVED.results
    waiting = replace(sr, state=DeliveryState.RETRY_WAIT, reason="the peer cannot be reached")
    assert replace(ARRIVED, results=(seg, waiting)).trouble == "the peer cannot be reached"
    assert ARRIVED.trouble == ""
