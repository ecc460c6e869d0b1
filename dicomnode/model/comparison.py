"""How two versions of a pipeline differ on one series, and what that comes to over many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from pydantic import BaseModel, ConfigDict

from dicomnode.model.job import JobState

WORST = 5
"""So many series are named, those on which the versions differ most."""


class Side(StrEnum):
    """Which of the two."""

    ACTIVE = "active"
    SHADOW = "shadow"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class SegmentCompared(_Part):
    """One segment, told apart by its coded meaning. `dice`: None where neither side has a voxel of it, or
    only one side's Segmentation declares it (`only_in`). The volumes are None where the source has no place
    in the patient."""

    segment: str
    dice: float | None
    active_ml: float | None
    shadow_ml: float | None
    only_in: Side | None = None


class NumberCompared(_Part):
    """One measurement of one thing in one unit; None on the side that does not report it, or reports it in
    another unit. `difference`: shadow less active, in the unit; `percent` of the active's."""

    of: str
    quantity: str
    unit: str
    active: float | None
    shadow: float | None
    difference: float | None = None
    percent: float | None = None


class FindingCompared(_Part):
    """How often each side found a thing, where that differs."""

    finding: str
    active: int
    shadow: int


class AnswerCompared(_Part):
    """What each side says to a question, where that differs; None is nothing."""

    question: str
    active: str | None
    shadow: str | None


class Ended(_Part):
    """How a job ended, why, and how many seconds its last run took from claim to end."""

    state: JobState
    code: str | None
    seconds: float | None


class Comparison(_Part):
    """All that is compared of one series. `same_input`: both were given the same frozen instances."""

    active: Ended
    shadow: Ended
    same_input: bool
    segments: tuple[SegmentCompared, ...] = ()
    numbers: tuple[NumberCompared, ...] = ()
    findings: tuple[FindingCompared, ...] = ()
    answers: tuple[AnswerCompared, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """How the two ended, where that differs; "" where it is the same, or one of them was cancelled."""
        ends = (self.active, self.shadow)
        if JobState.CANCELLED in {end.state for end in ends} or same_end(*ends):
            return ""
        return f"active {_said(self.active)}, shadow {_said(self.shadow)}"

    @property
    def both_done(self) -> bool:
        """Whether there are results to compare."""
        return self.active.state == self.shadow.state == JobState.DONE

    @property
    def lowest_dice(self) -> float | None:
        """Of the segment that overlaps least."""
        return min((each.dice for each in self.segments if each.dice is not None), default=None)

    @property
    def largest_percent(self) -> float:
        """Of the measurement that differs most, without its sign."""
        return max((abs(each.percent) for each in self.numbers if each.percent is not None), default=0.0)


def same_end(one: Ended, other: Ended) -> bool:
    """Whether two jobs ended in the same state for the same reason."""
    return (one.state, one.code) == (other.state, other.code)


def compared_number(
    of: str, quantity: str, unit: str, active: float | None, shadow: float | None
) -> NumberCompared:
    """A measurement with its difference."""
    difference = percent = None
    if active is not None and shadow is not None:
        difference = shadow - active
        percent = 100 * difference / abs(active) if active else None
    return NumberCompared(
        of=of,
        quantity=quantity,
        unit=unit,
        active=active,
        shadow=shadow,
        difference=difference,
        percent=percent,
    )


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """One segment over all series on which it has a Dice coefficient; `median_ml`: shadow less active."""

    segment: str
    series: int
    median_dice: float
    lowest_dice: float
    median_ml: float | None


@dataclass(frozen=True, slots=True)
class NumberSummary:
    """One measurement over all series on which both sides report it; the differences are shadow less active,
    `largest_percent` the one of the largest amount."""

    of: str
    quantity: str
    unit: str
    series: int
    median_difference: float
    median_percent: float | None
    largest_percent: float | None


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One series that is worth a look: how it ended where that differs, or how far apart the results are."""

    SeriesInstanceUID: str
    verdict: str
    lowest_dice: float | None
    largest_percent: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What the comparisons of one version come to.

    `both_done`: the series that have results of both; `without`: those of which one was cancelled or cannot
    be compared. `verdicts`: how often two ends that differ occurred. Times are medians in seconds.
    """

    series: int
    both_done: int
    without: int
    other_inputs: int
    findings_differ: int
    verdicts: Mapping[str, int]
    active_s: float | None
    shadow_s: float | None
    segments: tuple[SegmentSummary, ...]
    numbers: tuple[NumberSummary, ...]
    worst: tuple[SeriesSummary, ...]
    refused: tuple[SeriesSummary, ...]


def summarize(compared: Sequence[tuple[str, Comparison]]) -> Summary:
    """What the comparisons come to, each with its SeriesInstanceUID."""
    done = [(uid, each) for uid, each in compared if each.both_done]
    apart = [SeriesSummary(uid, each.verdict, None, 0.0) for uid, each in compared if each.verdict]
    verdicts: dict[str, int] = defaultdict(int)
    for each in apart:
        verdicts[each.verdict] += 1
    return Summary(
        series=len(compared),
        both_done=len(done),
        without=sum(bool(each.notes) or _was_cancelled(each) for _, each in compared),
        other_inputs=sum(not each.same_input for _, each in compared),
        findings_differ=sum(bool(each.findings or each.answers) for _, each in done),
        verdicts=dict(verdicts),
        active_s=_median(each.active.seconds for _, each in done),
        shadow_s=_median(each.shadow.seconds for _, each in done),
        segments=_segments(done),
        numbers=_numbers(done),
        worst=_worst(done),
        refused=tuple(apart),
    )


def _segments(done: Sequence[tuple[str, Comparison]]) -> tuple[SegmentSummary, ...]:
    by_name: dict[str, list[SegmentCompared]] = defaultdict(list)
    for _, each in done:
        for segment in each.segments:
            by_name[segment.segment].append(segment)
    summaries = []
    for name, found in by_name.items():
        dice = [each.dice for each in found if each.dice is not None]
        apart = [
            each.shadow_ml - each.active_ml
            for each in found
            if each.active_ml is not None and each.shadow_ml is not None
        ]
        if dice:
            summaries.append(SegmentSummary(name, len(dice), median(dice), min(dice), _median(apart)))
    return tuple(summaries)


def _numbers(done: Sequence[tuple[str, Comparison]]) -> tuple[NumberSummary, ...]:
    by_name: dict[tuple[str, str, str], list[NumberCompared]] = defaultdict(list)
    for _, each in done:
        for number in each.numbers:
            if number.difference is not None:
                by_name[number.of, number.quantity, number.unit].append(number)
    summaries = []
    for name, found in by_name.items():
        percents = [each.percent for each in found if each.percent is not None]
        apart = median(each.difference for each in found if each.difference is not None)
        largest = max(percents, key=abs, default=None)
        summaries.append(NumberSummary(*name, len(found), apart, _median(percents), largest))
    return tuple(summaries)


def _worst(done: Sequence[tuple[str, Comparison]]) -> tuple[SeriesSummary, ...]:
    """The least overlap first, then the largest difference of a measurement; none that do not differ."""
    found = [SeriesSummary(uid, "", each.lowest_dice, each.largest_percent) for uid, each in done]
    differ = [each for each in found if (each.lowest_dice or 0.0) < 1 or each.largest_percent]
    differ.sort(
        key=lambda each: (1.0 if each.lowest_dice is None else each.lowest_dice, -each.largest_percent)
    )
    return tuple(differ[:WORST])


def _was_cancelled(comparison: Comparison) -> bool:
    return JobState.CANCELLED in {comparison.active.state, comparison.shadow.state}


def _said(end: Ended) -> str:
    return f"{end.state} ({end.code})" if end.code else str(end.state)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
