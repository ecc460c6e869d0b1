"""The two servers of the demo: their folders and `config.toml`, their start and their end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicomnode.demo.errors import DemoError
from dicomnode.dimse.sender import echo
from dicomnode.errors import AssociationFailed
from dicomnode.model.peer import Peer

LOCALHOST = "127.0.0.1"
QUIET_S = 3.0
"""A series is complete after this silence; a real node waits longer."""
START_LIMIT_S = 90.0
STOP_LIMIT_S = 20.0
_LOG_LINES = 25


@dataclass(frozen=True, slots=True)
class Site:
    """Where one server keeps its things, where it listens on this machine, and the AE title it lets in."""

    folder: Path
    ae_title: str
    caller: str
    port: int

    @property
    def peer(self) -> Peer:
        """The server as others reach it."""
        return Peer(self.ae_title, LOCALHOST, self.port)

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "var"

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.folder / "config.toml"

    @property
    def log(self) -> Path:
        """What it writes to its standard output and error."""
        return self.folder / "log"

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-_LOG_LINES:])


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOCALHOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def write_archive_config(site: Site) -> None:
    """An archive is a node without routes: it stores, and answers queries."""
    _write(site, _common(site))


def write_node_config(site: Site, archive: Peer, pipelines: Path, pipeline: str) -> None:
    """A node that runs `pipeline` on every series and sends the results to the archive, for `make viewer`."""
    _write(
        site,
        f"""{_common(site)}
[completion]
quiet_s = {QUIET_S}

[delivery]
backoff_s = 1.0

[pipelines]
folder = {_text(str(pipelines))}

[[destination]]
name = "archive"
dimse = {{ ae_title = {_text(archive.ae_title)}, host = {_text(archive.host)}, port = {archive.port} }}
confirm = "find"
profile = "ohif3"

[[route]]
name = "demo"
when = "true"
pipeline = {_text(pipeline)}
send_to = ["archive"]
""",
    )


@contextmanager
def serving(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """Run `dicomnode serve` for the block; it is gone when the block has ended, however it ended."""
    # A session of its own: Ctrl-C reaches the demo alone, which then stops its servers in order.
    with site.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicomnode", "serve", "--config", str(site.config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("DICOMNODE_")},
        )
    try:
        yield process
    finally:
        _stop(process)


def wait_until_ready(site: Site, process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers C-ECHO; raises DemoError."""
    deadline = time.monotonic() + START_LIMIT_S
    while not _answers(site):
        if process.poll() is not None:
            raise DemoError(f"{site.ae_title} ended with status {process.returncode} while starting")
        if time.monotonic() > deadline:
            raise DemoError(f"{site.ae_title} does not answer C-ECHO after {START_LIMIT_S:g} s")
        time.sleep(0.2)


def _answers(site: Site) -> bool:
    try:
        socket.create_connection((LOCALHOST, site.port), timeout=1.0).close()
        echo(site.peer, site.caller)
    except (OSError, AssociationFailed):
        return False
    return True


def _common(site: Site) -> str:
    return f"""[node]
ae_title = {_text(site.ae_title)}
data = "var"
minimum_free_mb = 200
stop_limit_s = {STOP_LIMIT_S / 2}

[dimse]
address = "{LOCALHOST}"
port = {site.port}
accept = [{{ ae_title = {_text(site.caller)}, address = "{LOCALHOST}/32" }}]

[web]
port = 0
"""


def _write(site: Site, text: str) -> None:
    site.folder.mkdir(parents=True)
    site.config.write_text(text, encoding="utf-8")


def _text(value: str) -> str:
    """A TOML basic string; what JSON escapes, TOML escapes in the same way."""
    return json.dumps(value, ensure_ascii=False)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL to what is left of the process group."""
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        # The group outlives its leader where a child of it was left behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_LIMIT_S)
