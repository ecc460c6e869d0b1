"""A receiver and a web server as processes of their own, and what they hold: files, threads, memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from dicomnode.config import load_config
from dicomnode.installation import Stores, open_stores
from dicomnode.store.schema import instance
from tests.harness.nodes import ROOT, wait_for

SETTINGS = """
[node]
ae_title = "NODE"
data = "data"
minimum_free_mb = 1
[dimse]
port = 0
accept = [{{ ae_title = "*", address = "127.0.0.0/8" }}]
{dimse}
[web]
port = 0
accept = [{{ ae_title = "MODALITY", address = "127.0.0.0/8" }}]
{web}
{more}
"""
MAXIMUM_MB = 20
"""The longest data set that the node of these tests takes."""
PROGRAM = """
import sys
from pathlib import Path
from dicomnode.config import load_config
from dicomnode.model.role import Role
from dicomnode.node import run_role
file = Path(sys.argv[1])
sys.exit(run_role(load_config(file), file, Role(sys.argv[2]), 1))
"""


@dataclass(frozen=True)
class Held:
    """What a process holds of its peers: connections, and files on their way to be objects."""

    sockets: int
    files: int


@dataclass
class RoleProcess:
    """One role of the node."""

    process: subprocess.Popen[bytes]
    port: int

    def held(self) -> Held:
        links = []
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                links.append(str(descriptor.readlink()))
            except FileNotFoundError:
                continue
        return Held(
            sum(link.startswith("socket:") for link in links),
            sum("/data/tmp/" in link or "/data/objects/" in link for link in links),
        )

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def memory_mb(self) -> float:
        """The most that it has had in memory so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


class HostileNode:
    """Both roles over one store in `folder`."""

    def __init__(self, folder: Path, dimse: str = "", web: str = "", more: str = "") -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.config.write_text(SETTINGS.format(dimse=dimse, web=web, more=more))
        self.stores: Stores = open_stores(load_config(self.config, {}))
        self.stores.database.upgrade()
        roles = {role: self._launch(role) for role in ("receiver", "web")}
        self.receiver, self.web = (RoleProcess(roles[role], self._port(role)) for role in roles)

    def _launch(self, role: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, str(self.config), role]
        with self._log(role).open("wb") as log:
            return subprocess.Popen(command, stderr=log, stdout=log, cwd=ROOT)

    def _log(self, role: str) -> Path:
        return self.folder / f"{role}.jsonl"

    def log(self) -> str:
        """Everything that was logged."""
        return "".join(self._log(role).read_text(errors="replace") for role in ("receiver", "web"))

    def _port(self, role: str) -> int:
        def listening() -> int | None:
            lines = self._log(role).read_text(errors="replace").splitlines()
            events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
            return next((e["port"] for e in events if e.get("event") == f"{role}.listening"), None)

        return wait_for(f"{role}.listening", listening)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web.port}/dicom-web"

    def stored(self) -> set[str]:
        """The SOPInstanceUIDs in the catalog."""
        with self.stores.database.read() as tx:
            return set(tx.execute(select(instance.c.SOPInstanceUID)).scalars())

    def temporaries(self) -> list[Path]:
        """What was left on the way to an object."""
        return list((self.folder / "data" / "tmp").iterdir())

    def stop(self) -> None:
        for role in (self.receiver, self.web):
            role.process.send_signal(signal.SIGTERM)
        for role in (self.receiver, self.web):
            role.process.wait(30)
        self.stores.database.close()


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[HostileNode]:
    """A node while the block runs."""
    node = HostileNode(folder, **settings)
    try:
        yield node
    finally:
        node.stop()
