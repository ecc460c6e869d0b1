"""Real peers for the tests: DCMTK's programs and Orthanc, each on a port of its own, gone after the test."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicomnode.demo.errors import DemoError
from dicomnode.demo.viewer.archive import find_orthanc
from dicomnode.model.peer import Peer
from tests.conftest import NOT_RUN_HERE

START_LIMIT_S = 60.0
_TOLD_PORTS = range(20_000, 32_000)


def wait_for(condition: Callable[[], object], limit_s: float = START_LIMIT_S) -> None:
    """Return as soon as the condition holds; a test that waits in vain fails."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{condition} did not come true within {limit_s:g} s")
        time.sleep(0.01)


def free_port() -> int:
    """A port for a program that has to be told one; for others there is port 0.

    Below those that the kernel hands out for port 0, which may be another's before the program starts, and
    above those that the workers of Ray take.
    """
    while True:
        port = secrets.choice(_TOLD_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    """True where somebody takes connections."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@functools.cache
def dcmtk(program: str) -> str:
    """Where DCMTK's program is; skips without it. pynetdicom installs namesakes beside Python."""
    beside_python = Path(sys.executable).parent
    folders = ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"]
    for folder in folders:
        found = shutil.which(program, path=folder)
        if found and Path(found).parent != beside_python and _is_dcmtk(found):
            return found
    pytest.skip(f"{NOT_RUN_HERE}{program}")


def _is_dcmtk(program: str) -> bool:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=20)
    return "dcmtk" in said.stdout


def run(program: str, *arguments: str | Path | int, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of DCMTK's programs to its end."""
    return subprocess.run(
        [dcmtk(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        check=check,
        timeout=120,
        env={"TCP_NODELAY": "1"},
    )


@contextmanager
def running(command: list[str], log: Path, *ports: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens on every one of `ports` while the block runs."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=log.parent)
    try:
        wait_for(lambda: process.poll() is not None or all(map(listens, ports)))
        if process.poll() is not None:
            pytest.fail(f"{command[0]} ended: {log.read_text(errors='replace')[-2000:]}")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


@contextmanager
def storescp(folder: Path, *options: str, ae_title: str = "STORESCP") -> Iterator[Peer]:
    """DCMTK's storescp, which writes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [dcmtk("storescp"), "-od", str(folder), "-aet", ae_title, *options, str(port)]
    with running(command, folder.parent / "storescp.log", port):
        yield Peer(ae_title, "127.0.0.1", port, response_timeout_s=20.0)


def orthanc_program() -> str:
    """Where Orthanc is; skips without it."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip(f"{NOT_RUN_HERE}Orthanc")
    return program


@contextmanager
def orthanc(folder: Path, ae_title: str = "ORTHANC", **settings: object) -> Iterator[Peer]:
    """An Orthanc with an empty store in `folder`; `settings` go into its configuration."""
    program = orthanc_program()
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "Plugins": [],
        "HttpServerEnabled": False,
        "DicomAet": ae_title,
        "DicomPort": port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "UnknownSopClassAccepted": True,
        **settings,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    # DICOM is there some milliseconds before HTTP, which a test may ask at once.
    ports = [port, *([configuration["HttpPort"]] if configuration["HttpServerEnabled"] else [])]
    with running([program, str(file)], folder / "orthanc.log", *ports):
        yield Peer(ae_title, "127.0.0.1", port, response_timeout_s=20.0)


def orthanc_dicomweb(url: str, port: int) -> dict[str, object]:
    """Settings of an Orthanc that serves HTTP on `port` and knows the DICOMweb server "node" at `url`.

    The plug-in takes its servers from the configuration once Orthanc has started, and forgets what was
    PUT before that.
    """
    try:
        plugin = find_orthanc()[1]
    except DemoError:
        pytest.skip(f"{NOT_RUN_HERE}orthanc-dicomweb")
    return {
        "Plugins": [str(plugin)],
        "HttpServerEnabled": True,
        "HttpPort": port,
        "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Servers": {"node": {"Url": f"{url}/", "ChunkedTransfers": True}}},
    }
