"""Each job that waits has a place, and a time at which it can be expected, or the reason why not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dicomnode.model.queue import Limit, PauseKind, Queued, QueueFacts, forecast, strictest

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PIPELINE, ROUTE = (PauseKind.PIPELINE, "head"), (PauseKind.ROUTE, "r")


def queued(id_: int, pipeline: str = "head", *, running_s: float | None = None, wait_s: float = 0) -> Queued:
    since = NOW - timedelta(seconds=running_s or 0)
    return Queued(id_, pipeline, "r", running_s is not None, since, NOW + timedelta(seconds=wait_s))


def expected_s(jobs: list[Queued], **changes: object) -> dict[int, float | str]:
    facts: dict[str, object] = {
        "now": NOW,
        "jobs": jobs,
        "slots": 1,
        "run_s": {"head": 60.0, "chest": 10.0},
        "paused": frozenset(),
        "exhausted": frozenset(),
        "at_once": {},
    }
    places = forecast(QueueFacts(**{**facts, **changes}))
    return {
        id_: place.note if place.expected_at is None else (place.expected_at - NOW).total_seconds()
        for id_, place in places.items()
    }


def test_one_slot_works_off_what_waits_in_its_order_after_what_runs():
    jobs = [queued(1, running_s=40), queued(2), queued(3, "chest"), queued(4)]
    assert expected_s(jobs) == {1: 20, 2: 80, 3: 90, 4: 150}


def test_the_place_of_what_waits_begins_with_one_and_what_runs_has_none():
    places = forecast(
        QueueFacts(NOW, [queued(7, running_s=1), queued(8), queued(9)], 1, {}, frozenset(), frozenset(), {})
    )
    assert [places[id_].place for id_ in (7, 8, 9)] == [None, 1, 2]


def test_several_slots_share_the_work():
    jobs = [queued(1, running_s=50), queued(2), queued(3), queued(4)]
    assert expected_s(jobs, slots=2) == {1: 10, 2: 60, 3: 70, 4: 120}


def test_the_slot_of_a_worker_that_is_drained_takes_nothing_more_and_keeps_no_other_busy():
    running = replace(queued(1, running_s=0), slot_stays=False)
    assert expected_s([running, queued(2), queued(3)]) == {1: 60, 2: 60, 3: 120}


def test_what_runs_for_longer_than_usual_is_expected_at_any_moment():
    assert expected_s([queued(1, running_s=100), queued(2)]) == {1: 0, 2: 60}


def test_a_limit_at_a_time_holds_back_its_lane():
    jobs = [queued(1, running_s=0), queued(2)]
    assert expected_s(jobs, slots=3, at_once={PIPELINE: 1}) == {1: 60, 2: 120}


def test_a_second_attempt_waits_until_it_is_due():
    assert expected_s([queued(1, wait_s=30)]) == {1: 90}


def test_what_was_never_measured_says_so_and_so_does_what_stands_behind_it():
    assert expected_s([queued(1, "new"), queued(2)]) == {
        1: "new was never measured",
        2: "new is before it, and was never measured",
    }
    assert expected_s([queued(1, "new", running_s=5), queued(2)])[2] == "new runs, and was never measured"


def test_what_is_paused_or_used_up_says_so_and_holds_nobody_else_back():
    jobs = [queued(1), queued(2, "chest")]
    assert expected_s(jobs, paused=frozenset({PIPELINE})) == {1: "pipeline 'head' is paused", 2: 10}
    used_up = expected_s(jobs, exhausted=frozenset({PIPELINE}))
    assert used_up == {1: "pipeline 'head' has used up its hour", 2: 10}


def test_without_a_worker_nothing_can_be_expected():
    assert expected_s([queued(1)], slots=0) == {1: "no worker takes jobs"}


def test_the_strictest_of_several_limits_counts():
    limits = [Limit(ROUTE, 3, None), Limit(ROUTE, 2, None), Limit(PIPELINE, None, 60.0)]
    assert strictest(limits) == {ROUTE: 2}


@given(
    st.lists(st.sampled_from(["head", "chest"]), max_size=12),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_more_slots_never_make_the_whole_queue_later(pipelines: list[str], slots: int, at_once: int):
    jobs = [queued(number, pipeline) for number, pipeline in enumerate(pipelines)]
    limits = {PIPELINE: at_once}
    few = expected_s(jobs, slots=slots, at_once=limits)
    many = expected_s(jobs, slots=slots + 1, at_once=limits)
    assert max(many.values(), default=0) <= max(few.values(), default=0)
