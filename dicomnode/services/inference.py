"""One series through one pipeline: suited, run, plausible, encoded. Knows no database and no network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dicomnode.errors import Refused
from dicomnode.imaging.facts import series_facts, volume_facts
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers
from dicomnode.model.manifest import Condition
from dicomnode.model.result import EncodedResult
from dicomnode.pipeline.registry import InstalledPipeline
from dicomnode.pipeline.runner import Runner
from dicomnode.results.encode import encode_results
from dicomnode.results.provenance import Provenance
from dicomnode.rules.rule import Facts, Rule


@dataclass(frozen=True, slots=True)
class Inference:
    """What came out: the results in their order, and the seconds of each stage."""

    results: tuple[EncodedResult, ...]
    findings: Findings
    timings: Mapping[str, float]


def infer(
    paths: Sequence[Path],
    pipeline: InstalledPipeline,
    runner: Runner,
    provenance: Provenance,
    cancelled: Callable[[], bool],
) -> Inference:
    """Run `pipeline` over the instances at `paths`, which are one series.

    Raises Refused where they do not suit the pipeline or its answer is not plausible, RunError where
    the run failed, GateFailed where an encoded result is not what was computed.
    """
    headers = read_headers(paths)
    geometry, ordered = series_geometry(headers)
    facts: dict[str, Mapping[str, object]] = {
        "series": series_facts(ordered[0], len(ordered)),
        "volume": volume_facts(geometry),
    }
    from_headers, from_pixels = _by_what_they_ask(pipeline.manifest.require)
    _require(from_headers, facts)

    def suits(volume: Mapping[str, object]) -> None:
        _require(from_pixels, {**facts, "volume": volume})

    outcome = runner.run(paths, geometry, cancelled, suits)
    _require(
        _compiled(pipeline.manifest.plausible),
        {**facts, "volume": outcome.volume_facts, **_answer(outcome.findings)},
    )
    started = time.monotonic()
    results = encode_results(outcome.findings, ordered, pipeline.manifest, provenance)
    timings = {**outcome.timings, "encode": time.monotonic() - started}
    return Inference(results, outcome.findings, timings)


Compiled = tuple[Condition, Rule]
_PIXEL_FACTS = frozenset({"volume.minimum", "volume.maximum"})


def _by_what_they_ask(
    conditions: Sequence[Condition],
) -> tuple[list[Compiled], list[Compiled]]:
    """Those that headers can answer, so that nothing is decoded in vain, and those that need the pixels."""
    compiled = _compiled(conditions)
    return (
        [pair for pair in compiled if not pair[1].names & _PIXEL_FACTS],
        [pair for pair in compiled if pair[1].names & _PIXEL_FACTS],
    )


def _compiled(conditions: Sequence[Condition]) -> list[Compiled]:
    return [(condition, Rule(condition.when)) for condition in conditions]


def _require(conditions: Sequence[Compiled], facts: Facts) -> None:
    for condition, rule in conditions:
        if not rule.matches(facts):
            raise Refused(condition.code, condition.reason)


def _answer(findings: Findings) -> dict[str, Mapping[str, object]]:
    statistics = {name: asdict(numbers) for name, numbers in findings.statistics.items()}
    return {"segments": statistics, "all": statistics.get("all", {}), "values": dict(findings.values)}
