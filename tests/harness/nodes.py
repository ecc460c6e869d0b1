"""A whole dicomnode as a process of its own, on free ports, that tests speak to as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydicom

from dicomnode.config import load_config
from dicomnode.dimse.sender import send
from dicomnode.errors import DimseError
from dicomnode.installation import open_stores
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance
from dicomnode.services import administration

Found = TypeVar("Found")
ROOT = Path(__file__).parents[2]
CRASH = ROOT / "tests" / "faults" / "crash"
"""On PYTHONPATH, it kills a node at the point that CRASH_AT names."""
FAST = """
[completion]
quiet_s = {quiet_s}
missing_wait_s = 3.0
[workers]
lease_s = 3.0
[jobs]
backoff_s = 0.2
[delivery]
backoff_s = 0.2
backoff_limit_s = 1.0
lease_s = 3.0
"""


def wait_for(what: str, look: Callable[[], Found | None], limit_s: float = 120.0) -> Found:
    """What `look` yields as soon as it is truthy; fails, naming `what`, after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s:g} s in vain for {what}")
        time.sleep(0.05)


class RunningNode:
    """`dicomnode serve` in `folder`; the data stay there, so that it can be started again."""

    def __init__(
        self,
        folder: Path,
        *,
        pipelines: Path,
        routes: str = "",
        ae_title: str = "NODE",
        quiet_s: float = 1.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ae_title = folder, ae_title
        self.config, self.log = folder / "config.toml", folder / "log.jsonl"
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.config.write_text(
            f"""
[node]
ae_title = "{ae_title}"
data = "data"
minimum_free_mb = 1
stop_limit_s = 10.0
[dimse]
port = 0
accept = [{{ ae_title = "*", address = "127.0.0.0/8" }}]
[web]
port = 0
accept = [{{ ae_title = "*", address = "127.0.0.0/8" }}]
[pipelines]
folder = "{pipelines}"
{FAST.format(quiet_s=quiet_s)}
{routes}
"""
        )

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dicomnode", "serve", "--config", str(self.config)],
                stderr=log,
                stdout=log,
                start_new_session=True,
                cwd=ROOT,
                env={**os.environ, **self._environment},
            )

    def start(self) -> RunningNode:
        """Start it and wait until it listens."""
        seen = len(self.events())
        self.launch()
        self.port = int(self._listening("receiver.listening", seen)["port"])
        web = self._listening("web.listening", seen)
        self.web_url = f"http://127.0.0.1:{web['port']}/dicom-web"
        return self

    def _listening(self, event: str, seen: int) -> dict[str, Any]:
        """The first of its lines after `seen` that says so; a node that has ended is not waited for."""

        def look() -> list[dict[str, Any]]:
            assert self.alive(), self.log.read_text(errors="replace")[-2000:]
            return [each for each in self.events()[seen:] if each.get("event") == event]

        return wait_for(event, look, 90)[-1]

    @property
    def peer(self) -> Peer:
        """The node as its peers see it."""
        return Peer(self.ae_title, "127.0.0.1", self.port)

    @property
    def pid(self) -> int:
        """The node's first process, whose group the others are in."""
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        """True while the node's first process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def kill(self) -> None:
        """SIGKILL to every process of the node at once."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log that are events."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def status(self) -> dict[str, Any]:
        """What `dicomnode status --json` answers, without a process for each question."""
        config = load_config(self.config, self._environment)
        stores = open_stores(config)
        try:
            counts = administration.describe_all(stores.database, [each.name for each in config.destination])
            return {**counts, "list": administration.describe_studies(stores.database, None, 100)}
        finally:
            stores.database.close()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One dicomnode command on this node's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "dicomnode", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, **self._environment},
            timeout=300,
        )

    def ask(self, *arguments: str) -> Any:
        """What a command answers in JSON."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


Life = Callable[..., RunningNode]
"""A node on the same data as before, in an environment with what is named in addition."""


def kill_at(point: str, life: Life, after: Callable[[RunningNode], object] | None = None) -> None:
    """A life of a node that ends at `point`; `after`: what is done when it listens, if it gets so far."""
    node = life(CRASH_AT=point, PYTHONPATH=str(CRASH))
    try:
        if after is None:
            node.launch()
        else:
            after(node.start())
        wait_for(f"the crash at {point}", lambda: not node.alive(), 150)
    finally:
        node.kill()


def send_files(peer: Peer, paths: list[Path], calling_ae: str = "SCANNER") -> dict[str, DimseError | None]:
    """C-STORE the files; what became of each, by SOPInstanceUID."""
    outgoing = []
    for path in paths:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        outgoing.append(
            OutgoingInstance(ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID, str(path))
        )
    outcomes: dict[str, DimseError | None] = {}

    def note(instance: OutgoingInstance, error: DimseError | None) -> None:
        outcomes[instance.SOPInstanceUID] = error

    send(peer, calling_ae, outgoing, note)
    return outcomes
