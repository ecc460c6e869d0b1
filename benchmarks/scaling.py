"""What one machine carries, and what breaks first at each factor of ten: a simulation of one working day.

Studies arrive by the hours of a hospital's day. Each is received instance by instance, entered in the
database, kept in the object store, completed after the quiet period, run on a GPU by priority, and delivered.
Every machine is a queue (simpy); what an instance or a job costs is a measured figure of docs/performance.md
and can be given anew. First with one machine of each kind, then with as many as keep the busiest hour below
60 %: `python benchmarks/scaling.py [--sites 1 10 100] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import count
from pathlib import Path
from typing import Any

import simpy
from rich.console import Console
from rich.table import Table

HOUR_S, HOURS = 3_600.0, 30
BUSY = 0.6
"""No kind of machine is planned to be busier in the busiest hour."""
_BY_HOUR = (1, 1, 1, 1, 1, 2, 4, 8, 10, 11, 11, 9, 7, 9, 10, 9, 7, 5, 4, 3, 2, 2, 1, 1)
"""How the studies of a day fall on its hours."""
_STAT, _ROUTINE = 0, 1


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured on two cores (docs/scaling.md); seconds are of the processor's time."""

    receive_s: float = 0.0055
    """Of one core of a receiver for an instance of 0.5 MB."""
    enter_s: float = 0.0016
    """Of one core of the database for an instance, committed with others."""
    commit_s: float = 0.0012
    """Of the database's disk for a group of instances."""
    together: float = 4.0
    """Instances in one group."""
    row_bytes: float = 700.0
    """In the database for an instance, with its indexes."""
    engine_s: float = 0.0018
    """Of the one engine's core for an instance that arrives."""
    forward_s: float = 6.0
    """Of a GPU, or of what stands for one, for a series: read, forward, encode."""
    deliver_s: float = 0.4
    """Of one connection to the archive for the results of a series."""


@dataclass(frozen=True, slots=True)
class Site:
    """What one hospital sends in a working day, and how long it stays."""

    studies: int = 250
    instances: int = 400
    megabytes: float = 0.5
    stat: float = 0.1
    """The part of the studies that is urgent."""
    days_kept: int = 100
    quiet_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Machines:
    """How many of each kind there are."""

    receiver_cores: int = 2
    database_cores: int = 2
    database_disks: int = 1
    engines: int = 1
    gpus: int = 1
    archive_connections: int = 2


KINDS = tuple(each.name for each in fields(Machines))


@dataclass(slots=True)
class Day:
    """What a simulated day showed: the busy seconds of each kind by hour, and how long studies waited."""

    busy: dict[str, list[float]] = field(default_factory=lambda: {kind: [0.0] * HOURS for kind in KINDS})
    stat_s: list[float] = field(default_factory=list)
    routine_s: list[float] = field(default_factory=list)
    unfinished: int = 0

    def peak(self, kind: str, machines: Machines) -> float:
        """Which part of its busiest hour that kind had work; 1 means that a queue stood before it."""
        return min(1.0, max(self.busy[kind]) / HOUR_S / getattr(machines, kind))


class Hospital:
    """Machines in the simulated day of some sites."""

    def __init__(self, costs: Costs, site: Site, sites: int, machines: Machines, seed: int) -> None:
        self._costs, self._site, self._sites = costs, site, sites
        self._chosen, self.day = random.Random(seed), Day()  # noqa: S311  no secret
        self._clock, self._number = simpy.Environment(), count()
        self._waiting = {kind: simpy.PriorityStore(self._clock) for kind in KINDS}
        for kind in KINDS:
            for _ in range(getattr(machines, kind)):
                self._clock.process(self._machine(kind))

    def run(self) -> Day:
        """Play the day, and some hours of the night after it in which queues may empty."""
        for at in self._arrivals():
            self._clock.process(self._study(at))
        self._clock.run(until=HOURS * HOUR_S)
        self.day.unfinished = self._sites * self._site.studies - len(self.day.stat_s + self.day.routine_s)
        return self.day

    def _arrivals(self) -> Iterator[float]:
        hours = self._chosen.choices(range(24), _BY_HOUR, k=self._sites * self._site.studies)
        return ((hour + self._chosen.random()) * HOUR_S for hour in hours)

    def _study(self, at: float) -> Iterator[Any]:
        costs, instances = self._costs, self._chosen.expovariate(1 / self._site.instances)
        urgency = _STAT if self._chosen.random() < self._site.stat else _ROUTINE
        forward_s = self._chosen.lognormvariate(math.log(costs.forward_s) - 0.125, 0.5)
        yield self._clock.timeout(at)
        for kind, each_s in _arriving(costs).items():
            yield self._done(kind, each_s * instances, _STAT)
        completed_at = self._clock.now
        yield self._clock.timeout(self._site.quiet_s)
        yield self._done("gpus", forward_s, urgency)
        yield self._done("archive_connections", costs.deliver_s, urgency)
        waits = self.day.stat_s if urgency == _STAT else self.day.routine_s
        waits.append(self._clock.now - completed_at)

    def _done(self, kind: str, seconds: float, urgency: int) -> simpy.Event:
        done = self._clock.event()
        self._waiting[kind].put(simpy.PriorityItem((urgency, next(self._number)), (seconds, done)))
        return done

    def _machine(self, kind: str) -> Iterator[Any]:
        while True:
            taken = yield self._waiting[kind].get()
            seconds, done = taken.item
            self.day.busy[kind][int(self._clock.now / HOUR_S)] += seconds
            yield self._clock.timeout(seconds)
            done.succeed()


def _arriving(costs: Costs) -> dict[str, float]:
    """Seconds that one instance takes of each kind until it is acknowledged and noticed."""
    return {
        "receiver_cores": costs.receive_s,
        "database_cores": costs.enter_s,
        "database_disks": costs.commit_s / costs.together,
        "engines": costs.engine_s,
    }


def demand(costs: Costs, site: Site, sites: int) -> dict[str, float]:
    """How many of each kind the busiest hour keeps busy all the time."""
    studies = sites * site.studies * max(_BY_HOUR) / sum(_BY_HOUR) / HOUR_S
    instances = studies * site.instances
    return {
        **{kind: instances * each_s for kind, each_s in _arriving(costs).items()},
        "gpus": studies * costs.forward_s,
        "archive_connections": studies * costs.deliver_s,
    }


def enough(costs: Costs, site: Site, sites: int) -> Machines:
    """So many that the busiest hour leaves them `BUSY`."""
    return Machines(**{kind: math.ceil(need / BUSY) for kind, need in demand(costs, site, sites).items()})


def kept(costs: Costs, site: Site, sites: int) -> dict[str, float]:
    """What lies there when as much leaves as comes."""
    instances = sites * site.studies * site.instances * site.days_kept
    peak = demand(costs, site, sites)["receiver_cores"] / costs.receive_s
    return {
        "instances": instances,
        "TB of objects": instances * site.megabytes / 1e6,
        "GB of database": instances * costs.row_bytes / 1e9,
        "instances_a_second": peak,
        "megabytes_a_second": peak * site.megabytes,
    }


def simulate(costs: Costs, site: Site, sites: int, machines: Machines, seed: int) -> dict[str, Any]:
    """One line of the table, with all figures."""
    day = Hospital(costs, site, sites, machines, seed).run()
    peaks = {kind: day.peak(kind, machines) for kind in KINDS}
    return {
        "sites": sites,
        "machines": asdict(machines),
        "busiest": max(peaks, key=lambda kind: peaks[kind]),
        "peaks": peaks,
        "stat_p95_s": _percentile(day.stat_s),
        "routine_p95_s": _percentile(day.routine_s),
        "unfinished": day.unfinished,
        "kept": kept(costs, site, sites),
    }


def _percentile(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else math.nan


def _table(title: str, lines: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=title, header_style="bold", title_justify="left")
    table.add_column("sites")
    for line in lines:
        table.add_column(f"{line['sites']:,}", justify="right")
    for kind in KINDS:
        table.add_row(kind.replace("_", " "), *(_how_busy(line, kind) for line in lines))
    table.add_section()
    table.add_row("stat: p95 from complete to archived", *(f"{line['stat_p95_s']:,.0f} s" for line in lines))
    table.add_row("routine: the same", *(f"{line['routine_p95_s']:,.0f} s" for line in lines))
    table.add_row("studies left at the end of the night", *(f"{line['unfinished']:,}" for line in lines))
    return table


def _how_busy(line: dict[str, Any], kind: str) -> str:
    mark = "→ " if kind == line["busiest"] else ""
    return f"{mark}{line['machines'][kind]} at {line['peaks'][kind]:.0%}"


def _kept_table(lines: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="What lies there, and what comes in the busiest hour", header_style="bold")
    table.add_column("sites")
    for line in lines:
        table.add_column(f"{line['sites']:,}", justify="right")
    for name in lines[0]["kept"]:
        table.add_row(name.replace("_", " "), *(f"{line['kept'][name]:,.0f}" for line in lines))
    return table


def main() -> None:
    """Simulate each number of sites, with one machine of each kind and with enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sites", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    for group in (Costs, Site):
        for each in fields(group):
            parser.add_argument(
                f"--{each.name.replace('_', '-')}", type=type(each.default), default=each.default
            )
    given = parser.parse_args()
    costs, site = (
        group(**{each.name: getattr(given, each.name) for each in fields(group)}) for group in (Costs, Site)
    )
    alone = [simulate(costs, site, sites, Machines(), given.seed) for sites in given.sites]
    planned = [simulate(costs, site, sites, enough(costs, site, sites), given.seed) for sites in given.sites]
    console = Console()
    console.print(_table("One machine of each kind", alone))
    console.print(_table(f"As many as keep the busiest hour below {BUSY:.0%}", planned))
    console.print(_kept_table(planned))
    if given.json:
        given.json.write_text(
            json.dumps(
                {"costs": asdict(costs), "site": asdict(site), "alone": alone, "planned": planned}, indent=2
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
