"""The play itself: scan, send, wait, ask the archive, show. Each step leaves its facts for the next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid
from rich.console import Console

from dicomnode.demo import picture
from dicomnode.demo.errors import DemoError
from dicomnode.demo.journey import Journey, read_journey, stages
from dicomnode.demo.measurements import Measurement, measurements
from dicomnode.demo.progress import Step, Steps, shown_steps
from dicomnode.demo.report import print_archived, print_measurements, print_stages, volumes_by_segment
from dicomnode.demo.scanner import scan_mni
from dicomnode.demo.series import Series, find_instances, find_series
from dicomnode.demo.servers import (
    Site,
    free_ports,
    serving,
    wait_until_ready,
    write_archive_config,
    write_node_config,
)
from dicomnode.dimse.query import listed_instances
from dicomnode.dimse.sender import echo, send
from dicomnode.errors import DimseError
from dicomnode.imaging.volume import read_volume
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance, ResultRole
from dicomnode.store.database import Database

NODE_AE, ARCHIVE_AE, SCANNER_AE = "DICOMNODE", "ARCHIVE", "DEMOSCANNER"
_POLL_S = 0.25
DELIVERY_LIMIT_S = 180.0
"""An archive that is gone for longer ends the demo; the node itself would go on trying for days."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a demo is played with; `archive` None starts one of our own. `limit_s` bounds each wait.

    `scans`: how many series travel, one after the other; from the second on, the model is warm.
    """

    folder: Path
    pipelines: Path
    pipeline: str
    series: Path | None
    archive: Peer | None
    limit_s: float
    scans: int = 1


@dataclass(frozen=True, slots=True)
class Played:
    """The last series that travelled, its way, and the picture of its result."""

    series: Series
    journey: Journey
    picture: Path


def play(scene: Scene, console: Console) -> Played:
    """Play the whole way and print what came out. Raises DicomnodeError."""
    own_archive, node = _sites(scene)
    archive = scene.archive or own_archive.peer
    sites = (own_archive, node) if scene.archive is None else (node,)
    write_node_config(node, archive, scene.pipelines, scene.pipeline)
    if scene.archive is None:
        write_archive_config(own_archive)
    try:
        with shown_steps(console) as steps, ExitStack() as servers:
            if scene.archive is not None:
                _require_answers(steps, scene.archive)
            require_running = _start(steps, servers, sites)
            for number in range(1, scene.scans + 1):
                series = _scan(steps, scene, number)
                _send(steps, series, node.peer)
                journey = _watch(steps, scene, node, series, require_running)
                _ask(steps, archive, series, journey)
            # Our own archive is read where it keeps its files; another one has proven that it has these.
            kept = node if scene.archive else own_archive
            measured, image = _show(steps, scene, series, journey, kept.data)
    except Exception:
        _print_last_words(console, sites)
        raise
    print_measurements(console, measured)
    print_archived(console, journey.results, series.StudyInstanceUID)
    print_stages(console, stages(journey))
    return Played(series, journey, image)


def _sites(scene: Scene) -> tuple[Site, Site]:
    archive_port, node_port = free_ports(2)
    return (
        Site(scene.folder / "archive", ARCHIVE_AE, NODE_AE, archive_port),
        Site(scene.folder / "node", NODE_AE, SCANNER_AE, node_port),
    )


def _require_answers(steps: Steps, archive: Peer) -> None:
    """Raises DemoError unless the archive lets the node in and answers its queries."""
    with steps.step(f"ask {archive.ae_title} whether it lets {NODE_AE} in"):
        try:
            echo(archive, NODE_AE)
            listed_instances(archive, NODE_AE, generate_uid(), generate_uid())
        except DimseError as error:
            raise DemoError(
                f"{archive.ae_title} at {archive.host}:{archive.port} has to know the AE title {NODE_AE} "
                f"and answer its C-ECHO, C-STORE and C-FIND: {error}"
            ) from error


def _start(steps: Steps, servers: ExitStack, sites: Sequence[Site]) -> Callable[[], None]:
    """Start all and wait for all; gives the check that they still run, which raises DemoError."""
    with steps.step("start " + " and ".join(site.ae_title for site in sites), len(sites)) as step:
        started = [(site, servers.enter_context(serving(site))) for site in sites]
        for ready, (site, process) in enumerate(started, 1):
            wait_until_ready(site, process)
            step.at(ready)

    def require_running() -> None:
        for site, process in started:
            if process.poll() is not None:
                raise DemoError(f"{site.ae_title} ended with status {process.returncode}")

    return require_running


def _scan(steps: Steps, scene: Scene, number: int) -> Series:
    if scene.series is not None:
        return find_series(scene.series)
    with steps.step("scan the MNI152 head"):
        scan_mni(scene.folder / f"series-{number}")
    return find_series(scene.folder / f"series-{number}")


def _send(steps: Steps, series: Series, node: Peer) -> None:
    failures: list[DimseError] = []
    with steps.step("C-STORE the series to the node", len(series.instances)) as step:
        done = 0

        def settle(_: OutgoingInstance, error: DimseError | None) -> None:
            nonlocal done
            done += 1
            step.at(done)
            if error is not None:
                failures.append(error)

        send(node, SCANNER_AE, series.instances, settle)
        if failures:
            raise DemoError(f"{len(failures)} of {len(series.instances)} were not taken: {failures[0]}")


def _watch(
    steps: Steps, scene: Scene, node: Site, series: Series, require_running: Callable[[], None]
) -> Journey:
    # The rows themselves, not `dicomnode status`: a process a look would take time from the inference.
    database = Database(f"sqlite:///{node.data / 'dicomnode.sqlite3'}")
    try:
        wait = _Wait(database, series, scene.limit_s, require_running)
        with steps.step("wait until the series is complete"):
            wait.until(lambda journey: journey.completed_at is not None)
        with steps.step(f"run {scene.pipeline}") as step:
            wait.until(lambda journey: _ran(journey, scene.pipeline, step))
        results = len(wait.now().results)
        with steps.step("deliver", results) as step:
            wait.until(lambda journey: _delivered(journey, "deliver", journey.sent, step), DELIVERY_LIMIT_S)
        with steps.step("confirm", results) as step:
            return wait.until(
                lambda journey: _delivered(journey, "confirm", journey.confirmed, step), DELIVERY_LIMIT_S
            )
    finally:
        database.close()


class _Wait:
    """Looks at the series' journey until something is true of it."""

    def __init__(
        self, database: Database, series: Series, limit_s: float, require_running: Callable[[], None]
    ) -> None:
        self._database, self._series = database, series
        self._limit_s, self._require_running = limit_s, require_running

    def now(self) -> Journey:
        journey = read_journey(self._database, self._series.StudyInstanceUID, self._series.SeriesInstanceUID)
        if journey is None:
            raise DemoError("the node does not know the series that it was sent")
        return journey

    def until(self, reached: Callable[[Journey], bool], most_s: float = math.inf) -> Journey:
        limit_s = min(self._limit_s, most_s)
        deadline = time.monotonic() + limit_s
        while not reached(journey := self.now()):
            self._require_running()
            if time.monotonic() > deadline:
                trouble = f" ({journey.trouble})" if journey.trouble else ""
                raise DemoError(
                    f"nothing came of it within {limit_s:g} s; the job is {journey.job_state}{trouble}"
                )
            time.sleep(_POLL_S)
        return journey


def _ran(journey: Journey, pipeline: str, step: Step) -> bool:
    step.says(f"run {pipeline} ({journey.job_state or 'no job yet'})")
    return bool(journey.results)


def _delivered(journey: Journey, what: str, count: int, step: Step) -> bool:
    step.says(f"{what} ({journey.trouble})" if journey.trouble else what)
    step.at(count)
    return count == len(journey.results)


def _ask(steps: Steps, archive: Peer, series: Series, journey: Journey) -> None:
    """Raises DemoError unless the archive itself lists a SEG and an SR, and every other result."""
    roles = {result.role for result in journey.results}
    if missing := {ResultRole.SEG, ResultRole.SR} - roles:
        raise DemoError(f"the job made no {' and no '.join(sorted(missing))}")
    with steps.step("ask the archive (C-FIND)", len(journey.results)) as step:
        for count, result in enumerate(journey.results, 1):
            # Under the node's AE title, the only one that an archive of the user's knows.
            listed = listed_instances(archive, NODE_AE, series.StudyInstanceUID, result.SeriesInstanceUID)
            if result.SOPInstanceUID not in listed:
                raise DemoError(f"the archive does not list the {result.role} {result.SOPInstanceUID}")
            step.at(count)


def _show(
    steps: Steps, scene: Scene, series: Series, journey: Journey, kept: Path
) -> tuple[list[Measurement], Path]:
    by_role = {result.role: result.SOPInstanceUID for result in journey.results}
    with steps.step("read the report and draw the picture"):
        found = find_instances(kept / "objects", frozenset(by_role.values()))
        if absent := set(by_role.values()) - found.keys():
            raise DemoError(f"{absent.pop()} is listed, but its file is not there")
        measured = measurements(pydicom.dcmread(found[by_role[ResultRole.SR]]))
        source = read_volume([Path(instance.path) for instance in series.instances])
        shown = picture.overlay(source, pydicom.dcmread(found[by_role[ResultRole.SEG]]))
        image = scene.folder / "picture.png"
        title = f"{scene.pipeline} · {series.SeriesDescription}"
        picture.draw(shown, title, volumes_by_segment(measured), image)
    return measured, image


def _print_last_words(console: Console, sites: Sequence[Site]) -> None:
    for site in sites:
        if words := site.last_words():
            console.rule(f"the end of {site.log}")
            console.print(words, markup=False, highlight=False, soft_wrap=True)


def new_folder(under: Path, now: datetime) -> Path:
    """A folder of this run's own."""
    folder = under / f"{now:%Y%m%d-%H%M%S}"
    suffix = 1
    while folder.exists():
        suffix += 1
        folder = under / f"{now:%Y%m%d-%H%M%S}-{suffix}"
    folder.mkdir(parents=True)
    return folder.resolve()
