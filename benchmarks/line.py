"""One line of `make bench`: what both sides of the same run measured, and whether that is good enough."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Line:
    """`theirs` may be a limit in place of another side, or missing; `goal` is for ours/theirs."""

    ours: float
    theirs: float | None
    unit: str
    goal: float | None
    better: str

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def is_met(self) -> bool:
        """True where the goal is reached, or there is none."""
        if self.ratio is None or self.goal is None:
            return True
        return self.ratio <= self.goal if self.better == "lower" else self.ratio >= self.goal

    def told(self) -> dict[str, object]:
        """As build/bench.json has it."""
        return asdict(self) | {"ratio": self.ratio}


Lines: TypeAlias = dict[str, Line]
"""By what was measured."""


def lower(ours: float, theirs: float | None, unit: str, goal: float | None = None) -> Line:
    """Of what should be small."""
    return Line(ours, theirs, unit, goal, "lower")


def higher(ours: float, theirs: float | None, unit: str, goal: float | None = None) -> Line:
    """Of what should be large."""
    return Line(ours, theirs, unit, goal, "higher")
