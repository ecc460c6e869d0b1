"""State machines of Hypothesis that are held against a database."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def hold_against(machine: type[RuleBasedStateMachine], *, examples: int, steps: int, **given: Any) -> None:
    """Play `machine`, whose class attributes are `given`, so many times."""
    run_state_machine_as_test(
        type(machine.__name__, (machine,), given),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
