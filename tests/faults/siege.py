"""A node under continuing traffic whose processes are killed again and again; and its books."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path

import psutil
import pydicom
from sqlalchemy import func, select

from dicomnode.config import load_config
from dicomnode.dicomweb.client import WebClient, http_client
from dicomnode.errors import DicomnodeError
from dicomnode.installation import Stores
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance
from dicomnode.store.schema import job, result, series
from tests.faults.auditing import mistakes, unfinished
from tests.faults.books import ROUTE, Archive, moments, named_digest, node_for, processes, stores_as_left
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, send_files, wait_for
from tests.peers import free_port

CRASH = Path(__file__).parent / "crash"
BETWEEN_S = 3.0
"""The longest that a node is left alone between two kills."""
SETTLED_S = 180.0
AGAIN_S = 0.2
PROCESSES = 8
"""As many as the node has, so that each kind of kill is about as likely as that of one process."""

Files = tuple[Path, ...]
Send = Callable[[Sequence[Path]], Mapping[str, DicomnodeError | None]]


class Scanner:
    """Sends one series after the other, each until all of it is acknowledged, and writes down what was."""

    def __init__(self, send: Send) -> None:
        self._send, self._series = send, queue.SimpleQueue[Files | None]()
        self.acknowledged: set[Path] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ended = threading.Event()
        self._thread.start()

    def give(self, files: Files) -> None:
        """One more series to send."""
        self._series.put(files)

    def stop(self) -> None:
        """Send nothing more."""
        self._ended.set()
        self._series.put(None)
        self._thread.join(60)

    def _run(self) -> None:
        while (files := self._series.get()) is not None:
            by_uid = {pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID: file for file in files}
            while by_uid and not self._ended.is_set():
                outcomes = self._send(list(by_uid.values()))
                for uid in (uid for uid, error in outcomes.items() if error is None):
                    self.acknowledged.add(by_uid.pop(uid))
                if by_uid:
                    self._ended.wait(AGAIN_S)


class Siege:
    """The node, its scanners (C-STORE and STOW-RS), the archive, and all that was sent."""

    def __init__(self, folder: Path, archive: Archive, pipelines: Path, **environment: str) -> None:
        self._folder, self._archive, self._pipelines = folder, archive, pipelines
        self._dimse_port, self._web_port = free_port(), free_port()
        self._environment = {
            "DICOMNODE_DIMSE_PORT": str(self._dimse_port),
            "DICOMNODE_WEB_PORT": str(self._web_port),
            # Here a job may be running at more than three kills, at which it would be dead, and rightly so.
            "DICOMNODE_JOBS_ATTEMPTS": "1000",
            **environment,
        }
        self.node = self._new_node()
        self._scanners = (Scanner(self._by_dimse), Scanner(self._by_stow))
        self._turn = cycle(self._scanners)
        self._sent: list[Files] = []
        self._digests: dict[Path, tuple[str, str]] = {}
        self.killed: Counter[str] = Counter()

    def close(self) -> None:
        """End the scanners and the node."""
        for scanner in self._scanners:
            scanner.stop()
        if self.node.alive():
            self.node.kill()

    def send_one(self) -> None:
        """One more series, by C-STORE and by STOW-RS in turns; it arrives when the node takes it."""
        files = tuple(write_series(self._folder / "series" / str(len(self._sent)), small_series()))
        self._digests |= {file: named_digest(file) for file in files}
        self._sent.append(files)
        next(self._turn).give(files)

    def crash_at(self, what: str, point: str) -> None:
        """The whole node is killed, and once more at `point`; it is not started again."""
        if self.node.alive():
            self.node.kill()
        self._new_node(CRASH_AT=point, PYTHONPATH=str(CRASH)).launch()
        self.send_one()
        wait_for(f"the crash when {what}", lambda: not self.node.alive(), 60)
        self.killed["named point"] += 1

    def play(self, kills: int, seed: int, points: Mapping[str, str]) -> None:
        """So many kills at random moments, under traffic: of a process, the supervisor, or the whole node."""
        when = moments(seed)
        for _ in range(kills):
            if not self.node.alive():
                self._new_node().start()
            self.send_one()
            threading.Event().wait(when.uniform(0.0, BETWEEN_S))
            kinds = ["whole node", "supervisor", "named point", *["one process"] * PROCESSES]
            kind = when.choice(kinds)
            if kind == "whole node":
                self.node.kill()
            elif kind == "supervisor":
                self._kill_supervisor()
            elif kind == "named point":
                self.crash_at(*when.choice(sorted(points.items())))
                continue
            else:
                kind = self._kill_one(when.random())
            self.killed[kind] += 1

    def settle(self) -> None:
        """All is sent, and comes to its end; then the books have to be right."""
        if not self.node.alive():
            self._new_node().start()
        with self._stores() as stores:
            wait_for("every instance to be acknowledged", self._all_acknowledged, SETTLED_S)
            self._wait_for_the_end(stores)
            with stores.database.read() as tx:
                last = select(result.c.SOPInstanceUID).join_from(result, job, job.c.id == result.c.job_id)
                of_series = (job.c.series_id == series.c.id) & (job.c.generation == series.c.generation)
                assert set(tx.execute(last.join(series, of_series)).scalars()) <= set(self._archive.received)
        self.check_books()

    def check_books(self) -> None:
        """What was acknowledged is there byte for byte; one job each; one content of each result."""
        files = set().union(*(set(scanner.acknowledged) for scanner in self._scanners))
        with self._stores() as stores:
            acknowledged = dict(self._digests[file] for file in files)
            wrong = mistakes(stores, acknowledged, self._archive.received, [ROUTE])
        assert not wrong, wrong

    def _stores(self) -> AbstractContextManager[Stores]:
        return stores_as_left(load_config(self.node.config, self._environment))

    def _wait_for_the_end(self, stores: Stores) -> None:
        try:
            wait_for("everything to be at its end", lambda: not self._unsettled(stores), SETTLED_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {'; '.join(self._unsettled(stores))}") from None

    def _all_acknowledged(self) -> bool:
        return sum(len(scanner.acknowledged) for scanner in self._scanners) == len(self._digests)

    def _unsettled(self, stores: Stores) -> list[str]:
        """What has not come to its end yet."""
        with stores.database.read() as tx:
            last = (
                select(job.c.id)
                .where(job.c.series_id == series.c.id, job.c.generation == series.c.generation)
                .where(job.c.state == "done")
                .exists()
            )
            whole = tx.execute(
                select(func.count()).where(last, series.c.instance_count == len(self._sent[0]))
            ).scalar_one()
        undone = len(self._sent) - whole
        return [*unfinished(stores), *([f"{undone} series without a job that is done"] if undone else [])]

    def _kill_one(self, where: float) -> str:
        """Kill one of the processes that are there; what it was."""
        there = processes(self.node)
        started = [event for event in self.node.events() if event.get("event") == "process.started"]
        names = {event["pid"]: event["process"] for event in started}
        victim = there[int(where * len(there))] if there else psutil.Process(self.node.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            name = "a run's child" if "dicomnode.pipeline.child" in victim.cmdline() else "other"
            victim.kill()
            return str(names.get(victim.pid, name))
        return "none"

    def _kill_supervisor(self) -> None:
        """The others have lost their parent: they end by themselves, and only then is it started again."""
        orphans = processes(self.node)
        psutil.Process(self.node.pid).kill()
        wait_for("the supervisor to be gone", lambda: not self.node.alive(), 10)
        _, alive = psutil.wait_procs(orphans, timeout=30)
        assert not alive, [each.cmdline() for each in alive]

    def _new_node(self, **environment: str) -> RunningNode:
        self.node = node_for(self._folder, self._archive, self._pipelines, self._environment | environment)
        return self.node

    def _by_dimse(self, files: Sequence[Path]) -> Mapping[str, DicomnodeError | None]:
        return send_files(Peer("NODE", "127.0.0.1", self._dimse_port), list(files))

    def _by_stow(self, files: Sequence[Path]) -> Mapping[str, DicomnodeError | None]:
        outcomes: dict[str, DicomnodeError | None] = {}
        with http_client(2.0, 10.0) as client:
            web = WebClient(f"http://127.0.0.1:{self._web_port}/dicom-web", client)
            web.send(
                [_outgoing(file) for file in files],
                lambda each, error: outcomes.update({each.SOPInstanceUID: error}),
                lambda: False,
            )
        return outcomes


def _outgoing(file: Path) -> OutgoingInstance:
    ds = pydicom.dcmread(file, stop_before_pixels=True)
    return OutgoingInstance(ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID, str(file))
