"""One series through one pipeline: suited, run, plausible, encoded. Knows no database and no network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.imaging.facts import series_facts, volume_facts
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.headers import each_header
from dicomnode.imaging.inputs import input_geometry
from dicomnode.imaging.stacks import Choose, stack_facts
from dicomnode.model.manifest import Condition, Manifest
from dicomnode.model.profile import Profile
from dicomnode.model.result import EncodedResult, ResultReference
from dicomnode.model.room import Peak
from dicomnode.pipeline.registry import InstalledPipeline
from dicomnode.pipeline.runner import Runner
from dicomnode.results.conformance import Validation
from dicomnode.results.encode import encode_results
from dicomnode.results.provenance import Provenance
from dicomnode.rules.rule import Facts, Rule
from dicomnode.services.outbox import Forms
from dicomnode.services.prior_inputs import NO_PRIORS, GivenPriors, UsedPriors, use_priors
from dicomnode.services.succession import predecessor_of, withdraw


@dataclass(frozen=True, slots=True)
class Inference:
    """What came out: the results in each form, the seconds of each stage, and the memory that it took."""

    forms: Forms
    findings: Findings
    timings: Mapping[str, float]
    peak: Peak


@dataclass(frozen=True, slots=True)
class _Looked:
    """What the headers of a series that suits tell; `from_pixels` are the conditions that need its pixels."""

    geometry: Geometry
    ordered: tuple[Dataset, ...]
    facts: Mapping[str, Mapping[str, object]]
    from_pixels: Sequence[Compiled]
    priors: UsedPriors

    def suits(self, volume: Mapping[str, object]) -> None:
        """Raises Refused."""
        _require(self.from_pixels, {**self.facts, "volume": volume})


def infer(
    paths: Sequence[Path],
    pipeline: InstalledPipeline,
    runner: Runner,
    provenance: Provenance,
    cancelled: Callable[[], bool],
    profiles: Sequence[Profile],
    earlier: Sequence[ResultReference] = (),
    given: GivenPriors = NO_PRIORS,
    *,
    frugal: bool = False,
) -> Inference:
    """Run `pipeline` over the instances at `paths`, which are one series, and encode for each profile.

    `earlier` are the results that the new ones replace: in each form, their withdrawal comes first. `given`
    are the priors that are here for it. `frugal`: an attempt before this one had too little memory.

    Raises Refused where they do not suit the pipeline or its answer is not plausible, RunError where
    the run failed, GateFailed where an encoded result is not what was computed.
    """
    try:
        looked = _look(
            paths, pipeline.manifest, given, lambda: runner.begin_if_warm(paths, cancelled, frugal=frugal)
        )
        outcome = runner.run(
            paths, looked.geometry, cancelled, looked.suits, looked.priors.inputs, frugal=frugal
        )
    finally:
        runner.forget()
    ordered, facts = looked.ordered, looked.facts
    provenance = provenance.beside(looked.priors.notes, looked.priors.references)
    _require(
        _compiled(pipeline.manifest.plausible),
        {**facts, "volume": outcome.volume_facts, **_answer(outcome.findings)},
    )
    started = time.monotonic()
    manifest, predecessor = pipeline.manifest, predecessor_of(earlier)
    forms: dict[Profile, tuple[EncodedResult, ...]] = {}
    with Validation(ordered[0]) as validation:
        for profile in profiles:
            withdrawn = withdraw(earlier, ordered[0], provenance, profile)
            for result in withdrawn:
                validation.begin(result)
            made = encode_results(
                outcome.findings, ordered, manifest, provenance, profile, predecessor, validation.begin
            )
            forms[profile] = (*withdrawn, *made)
        validation.finish()
    timings = {**outcome.timings, "encode": time.monotonic() - started}
    return Inference(forms, outcome.findings, timings, outcome.peak)


def _look(
    paths: Sequence[Path], manifest: Manifest, given: GivenPriors, begin: Callable[[], None]
) -> _Looked:
    """Whether the series suits, by its headers. Raises Refused.

    `begin` is called once the first of them does: the pixels can be read while the others are.
    """
    of_series, from_geometry, from_pixels = _by_what_they_ask(manifest.require)
    reading, choose = each_header(paths), _choose(manifest)
    headers = [next(reading)]
    if _suits(of_series, {"series": series_facts(headers[0], len(paths))}):
        begin()
    headers += reading
    try:
        geometry, ordered = input_geometry(headers, manifest.pipeline.input, choose)
    except Refused:
        # That a chest radiograph is no MR tells more than that it has no slices.
        _require(of_series, {"series": series_facts(headers[0], len(headers))})
        raise
    facts: dict[str, Mapping[str, object]] = {
        "series": series_facts(_instance_of(ordered[0], headers), len(headers)),
        "stack": stack_facts(ordered),
        "volume": volume_facts(geometry),
    }
    _require([*of_series, *from_geometry], facts)
    return _Looked(geometry, ordered, facts, from_pixels, use_priors(manifest, given, ordered[0], choose))


def _instance_of(plane: Dataset, headers: Sequence[Dataset]) -> Dataset:
    return next(ds for ds in headers if ds.SOPInstanceUID == plane.SOPInstanceUID)


def _choose(manifest: Manifest) -> Choose | None:
    """How the manifest takes one of the stacks of a series, where it says so."""
    if manifest.select is None:
        return None
    rule = Rule(manifest.select.when)
    return lambda facts: rule.matches({"stack": facts})


Compiled = tuple[Condition, Rule]
_PIXEL_FACTS = frozenset({"volume.minimum", "volume.maximum"})


def _by_what_they_ask(
    conditions: Sequence[Condition],
) -> tuple[list[Compiled], list[Compiled], list[Compiled]]:
    """Those about the series alone; those that its geometry answers; and those that need the pixels.

    The last are asked last, so that nothing is decoded in vain.
    """
    compiled = _compiled(conditions)
    of_series = [pair for pair in compiled if all(name.startswith("series.") for name in pair[1].names)]
    from_pixels = [pair for pair in compiled if pair[1].names & _PIXEL_FACTS]
    from_geometry = [pair for pair in compiled if pair not in of_series and pair not in from_pixels]
    return of_series, from_geometry, from_pixels


def _compiled(conditions: Sequence[Condition]) -> list[Compiled]:
    return [(condition, Rule(condition.when)) for condition in conditions]


def _suits(conditions: Sequence[Compiled], facts: Facts) -> bool:
    return all(rule.matches(facts) for _, rule in conditions)


def _require(conditions: Sequence[Compiled], facts: Facts) -> None:
    for condition, rule in conditions:
        if not rule.matches(facts):
            raise Refused(condition.code, condition.reason)


def _answer(findings: Findings) -> dict[str, Mapping[str, object]]:
    statistics = {name: asdict(numbers) for name, numbers in findings.statistics.items()}
    return {"segments": statistics, "all": statistics.get("all", {}), "values": dict(findings.values)}
