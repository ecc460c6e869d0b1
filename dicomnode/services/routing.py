"""A complete series meets the rules; what matches becomes jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import structlog
from pydicom import Dataset

from dicomnode.config import Config, Route
from dicomnode.errors import ConfigError, Refused
from dicomnode.imaging.facts import SERIES_FACTS, STUDY_FACTS, series_facts, study_facts
from dicomnode.imaging.headers import read_headers
from dicomnode.model.instance import AssociationFacts, Completion, InstanceRef
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import Rule, Verdict
from dicomnode.services.new_job import new_job
from dicomnode.services.shadows import add_shadows
from dicomnode.services.versions import active_version, priors_of
from dicomnode.store import catalog, completions, deliveries, jobs
from dicomnode.store.database import Database, Transaction
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

Facts = Mapping[str, Mapping[str, object]]

KNOWN_FACTS: Facts = {
    "series": SERIES_FACTS,
    "study": STUDY_FACTS,
    "association": dict.fromkeys(("calling_ae", "called_ae", "address"), ""),
}
"""What a route's rule can ask about, each with a value of its type."""

ONLY_ASKED_FOR = "the series is here as a prior: nobody sent it"
"""Why no rule looks at a series."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one route made of one series."""

    route: Route
    verdict: Verdict


class RouteTable:
    """The configured routes with their rules compiled. Raises ConfigError where one does not compile."""

    def __init__(self, config: Config, file: str = "config.toml") -> None:
        problems, self._routes = [], list[tuple[Route, Rule]]()
        for number, route in enumerate(config.route, start=1):
            try:
                self._routes.append((route, Rule(route.when, KNOWN_FACTS)))
            except ConfigError as error:
                problems += [f"route[{number}].when: {problem}" for problem in error.problems]
        if problems:
            raise ConfigError(file, problems)

    def decide(self, facts: Facts) -> list[Decision]:
        """The routes in their order, up to and with the first that matched and says stop."""
        decisions = []
        for route, rule in self._routes:
            decision = Decision(route, rule.holds(facts))
            decisions.append(decision)
            if decision.verdict.matched and route.on_match == "stop":
                break
        return decisions

    def undecided(self, why: str) -> list[Decision]:
        """Every route, unmatched, for a series that no rule could look at."""
        return [Decision(route, Verdict(False, (), why)) for route, _ in self._routes]


def routing_facts(header: Dataset, instances: int, association: AssociationFacts) -> Facts:
    """The facts that rules are evaluated over; `header` is one instance of the series."""
    return {
        "series": series_facts(header, instances),
        "study": study_facts(header),
        "association": {
            "calling_ae": association.calling_ae,
            "called_ae": association.called_ae,
            "address": association.address,
        },
    }


def completion_facts(objects: Objects, completion: Completion, instances: Sequence[InstanceRef]) -> Facts:
    """The facts of a complete series that is stored here. Raises Refused, OSError."""
    header = read_headers([objects.path(instances[0].sha256)])[0]
    return routing_facts(header, len(instances), completion.association)


def series_of_folder(path: Path, association: AssociationFacts) -> dict[str, Facts]:
    """The facts of each series among the files at `path`, by SeriesInstanceUID. Raises Refused."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    by_series: dict[str, list[Dataset]] = {}
    for header in read_headers(files):
        by_series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    return {uid: routing_facts(of[0], len(of), association) for uid, of in by_series.items()}


def input_digest(
    instances: Iterable[InstanceRef], priors: Mapping[str, Iterable[InstanceRef]] = MappingProxyType({})
) -> str:
    """Names a frozen input set: the same instances, and the same priors by their names, give the same."""
    lines = sorted(f"{ref.SOPInstanceUID} {ref.sha256}\n" for ref in instances)
    for key, refs in sorted(priors.items()):
        lines += sorted(f"{key} {ref.SOPInstanceUID} {ref.sha256}\n" for ref in refs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class RoutingService:
    """Takes up each completion once, and writes down what every route made of it."""

    def __init__(self, database: Database, objects: Objects, routes: RouteTable, registry: Registry) -> None:
        self._database, self._objects = database, objects
        self._routes, self._registry = routes, registry

    def tick(self) -> int:
        """Route what is complete, each in its own transaction; returns how many completions there were."""
        with self._database.read() as tx:
            if not completions.any_unrouted(tx):
                return 0
        routed = 0
        while self._route_next():
            routed += 1
        return routed

    def _route_next(self) -> bool:
        with self._database.begin() as tx:
            waiting = completions.unrouted(tx, limit=1)
            for completion in waiting:
                self._route(tx, completion)
        return bool(waiting)

    def _route(self, tx: Transaction, completion: Completion) -> None:
        instances = catalog.input_set(tx, completion.series_id, completion.generation)
        decisions = self._decide(tx, completion, instances)
        matched = [decision.route for decision in decisions if decision.verdict.matched]
        job_of = self._add_jobs(tx, completion, input_digest(instances), matched)
        for decision in decisions:
            jobs.add_routing(
                tx,
                completion.id,
                decision.route.name,
                matched=decision.verdict.matched,
                note=decision.verdict.note,
                job_id=job_of.get(decision.route.pipeline) if decision.verdict.matched else None,
            )
        completions.mark_routed(tx, completion.id)
        log.info("series.routed", SeriesInstanceUID=completion.SeriesInstanceUID, jobs=len(job_of))

    def _decide(
        self, tx: Transaction, completion: Completion, instances: Sequence[InstanceRef]
    ) -> list[Decision]:
        if catalog.only_asked_for(tx, completion.series_id):
            return self._routes.undecided(ONLY_ASKED_FOR)
        try:
            return self._routes.decide(completion_facts(self._objects, completion, instances))
        except (Refused, OSError) as error:
            log.error("routing.unreadable", completion=completion.id, error=type(error).__name__)
            return self._routes.undecided(f"the series cannot be read: {type(error).__name__}")

    def _add_jobs(
        self, tx: Transaction, completion: Completion, digest: str, matched: Sequence[Route]
    ) -> dict[str, int]:
        """One job a pipeline: routes that name the same one share it, with all their destinations.

        Beside it come those of the versions in its shadow, which no route knows of.
        """
        job_of = {}
        for name in dict.fromkeys(route.pipeline for route in matched):
            routes = [route for route in matched if route.pipeline == name]
            older = (completion.series_id, completion.generation, name)
            jobs.cancel_superseded(tx, *older)
            deliveries.supersede(tx, *older)
            version = active_version(tx, self._registry, name)
            new = new_job(
                completion,
                digest,
                version,
                route=routes[0].name,
                priority=min((route.priority for route in routes), key=lambda priority: priority.rank),
                deadline_s=min((route.deadline_s for route in routes if route.deadline_s), default=None),
                held_reason=next((_review(route) for route in routes if route.hold), None),
                send_to=tuple(dict.fromkeys(name for route in routes for name in route.send_to)),
                notify=tuple(
                    dict.fromkeys(name for route in routes if route.notice for name in route.send_to)
                ),
                priors=priors_of(self._registry, version),
            )
            job_of[name] = jobs.add(tx, new)
            add_shadows(tx, self._registry, completion, job_of[name], new)
        return job_of


def _review(route: Route) -> str:
    return f"route {route.name!r} holds its jobs for review"
