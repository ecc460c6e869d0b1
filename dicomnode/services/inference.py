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
from dicomnode.rules.rule import Rule


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
    facts = {"series": series_facts(ordered[0], len(ordered)), "volume": volume_facts(geometry)}
    _require(pipeline.manifest.require, facts)
    outcome = runner.run(paths, cancelled)
    _require(pipeline.manifest.plausible, {**facts, **_answer(outcome.findings)})
    started = time.monotonic()
    results = encode_results(outcome.findings, ordered, pipeline.manifest, provenance)
    timings = {**outcome.timings, "encode": time.monotonic() - started}
    return Inference(results, outcome.findings, timings)


def _require(conditions: Sequence[Condition], facts: Mapping[str, Mapping[str, object]]) -> None:
    for condition in conditions:
        if not Rule(condition.when).holds(facts).matched:
            raise Refused(condition.code, condition.reason)


def _answer(findings: Findings) -> dict[str, Mapping[str, object]]:
    statistics = {name: asdict(numbers) for name, numbers in findings.statistics.items()}
    return {"segments": statistics, "all": statistics.get("all", {}), "values": dict(findings.values)}
