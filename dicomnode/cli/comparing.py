"""`dicomnode pipelines compare`: how versions in the shadow differ from the active one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from dicomnode.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    print_json,
    print_table,
    stores_of,
)
from dicomnode.errors import NotFound
from dicomnode.model.comparison import Comparison, Ended, SeriesSummary, Summary
from dicomnode.store.comparisons import Compared


@dataclass(frozen=True, slots=True)
class Pair:
    """The two versions that a summary is about; of so many series one of the jobs has not ended."""

    active_version: str
    active_digest: str
    shadow_version: str
    shadow_digest: str
    waiting: int


def compare(
    pipeline: Annotated[str, typer.Argument(metavar="NAME", help="The pipeline's name.")],
    version: Annotated[str | None, typer.Option(help="Only this version; each one else.")] = None,
    series: Annotated[str | None, typer.Option(metavar="UID", help="One series, in all detail.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Say how versions in the shadow differ from the active one, over all series or on one."""
    # Here and below: the other commands need no codecs and no results.
    from dicomnode.services.comparison import comparison_of, find_comparisons

    found = find_comparisons(stores_of(config).database, pipeline, version, series)
    if not found:
        raise NotFound("comparison of", pipeline)
    if series is not None:
        if as_json:
            print_json([asdict(each) for each in found])
            return
        for each in found:
            _print_series(pipeline, each, comparison_of(each))
        return
    told = summaries(found)
    if as_json:
        print_json([{**asdict(pair), **asdict(summary)} for pair, summary in told])
        return
    for pair, summary in told:
        print_summary(pipeline, pair, summary)


def summaries(found: Sequence[Compared]) -> list[tuple[Pair, Summary]]:
    """One for each pair of versions: what was compared with another active version is another question."""
    from dicomnode.services.comparison import summary_of

    told = []
    for digests in dict.fromkeys((each.active_digest, each.shadow_digest) for each in found):
        of_pair = [each for each in found if (each.active_digest, each.shadow_digest) == digests]
        waiting = sum(each.found is None for each in of_pair)
        versions = (of_pair[0].active_version, digests[0], of_pair[0].shadow_version, digests[1])
        told.append((Pair(*versions, waiting), summary_of(of_pair)))
    return told


def print_summary(pipeline: str, pair: Pair, summary: Summary) -> None:
    """All that the comparisons of two versions come to, for people."""
    print_table(
        f"{pipeline} {pair.shadow_version} beside {pair.active_version}",
        ("", ""),
        [
            ("series compared", summary.series),
            ("with results of both", summary.both_done),
            ("not ended yet", pair.waiting),
            ("cancelled, or not to be compared", summary.without),
            ("given other inputs", summary.other_inputs),
            ("findings or answers differ", summary.findings_differ),
            (
                "seconds of a run (median)",
                f"{_number(summary.active_s)} active, {_number(summary.shadow_s)} shadow",
            ),
            *((f"ended otherwise: {verdict}", times) for verdict, times in summary.verdicts.items()),
        ],
    )
    print_table(
        "Segments",
        ("segment", "series", "Dice (median)", "Dice (lowest)", "volume, shadow − active (median, ml)"),
        [
            (
                each.segment,
                each.series,
                _dice(each.median_dice),
                _dice(each.lowest_dice),
                _number(each.median_ml),
            )
            for each in summary.segments
        ],
    )
    print_table(
        "Measurements",
        ("of", "quantity", "series", "shadow − active (median)", "unit", "% (median)", "% (largest)"),
        [
            (
                each.of,
                each.quantity,
                each.series,
                _number(each.median_difference),
                each.unit,
                _number(each.median_percent),
                _number(each.largest_percent),
            )
            for each in summary.numbers
        ],
    )
    _print_worth_a_look("Differ most", summary.worst)
    _print_worth_a_look("Ended otherwise", summary.refused)


def _print_worth_a_look(title: str, series: Iterable[SeriesSummary]) -> None:
    rows = [
        (_dice(each.lowest_dice), _number(each.largest_percent), each.verdict, each.SeriesInstanceUID)
        for each in series
    ]
    if rows:
        print_table(title, ("Dice (lowest)", "% (largest)", "", "SeriesInstanceUID"), rows)


def _print_series(pipeline: str, compared: Compared, comparison: Comparison | None) -> None:
    """One series in all detail."""
    title = (
        f"{pipeline} {compared.shadow_version} (job {compared.shadow_id}) beside {compared.active_version}"
    )
    title += f" (job {compared.job_id})"
    if comparison is None:
        print_table(title, ("", ""), [("", "not both jobs have ended")])
        return
    print_table(
        title,
        ("", "active", "shadow"),
        [
            ("ended", _end(comparison.active), _end(comparison.shadow)),
            ("seconds of the run", _number(comparison.active.seconds), _number(comparison.shadow.seconds)),
            *((f"found: {each.finding}", each.active, each.shadow) for each in comparison.findings),
            *((each.question, each.active, each.shadow) for each in comparison.answers),
            *(("", note, "") for note in comparison.notes),
            *([] if comparison.same_input else [("", "their inputs are not the same", "")]),
        ],
    )
    print_table(
        "Segments",
        ("segment", "Dice", "active (ml)", "shadow (ml)", ""),
        [
            (
                each.segment,
                _dice(each.dice),
                _number(each.active_ml),
                _number(each.shadow_ml),
                f"only in the {each.only_in}'s" if each.only_in else "",
            )
            for each in comparison.segments
        ],
    )
    print_table(
        "Measurements",
        ("of", "quantity", "active", "shadow", "shadow − active", "unit", "%"),
        [
            (
                each.of,
                each.quantity,
                _number(each.active),
                _number(each.shadow),
                _number(each.difference),
                each.unit,
                _number(each.percent),
            )
            for each in comparison.numbers
        ],
    )


def _end(end: Ended) -> str:
    return f"{end.state}: {end.code}" if end.code else str(end.state)


def _dice(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
