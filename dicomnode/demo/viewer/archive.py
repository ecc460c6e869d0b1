"""An Orthanc with its DICOMweb plug-in, empty at first, in a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicomnode.demo.errors import DemoError
from dicomnode.demo.servers import LOCALHOST, START_LIMIT_S, STOP_LIMIT_S, free_ports
from dicomnode.demo.viewer.ohif import DICOMWEB
from dicomnode.dimse.sender import send
from dicomnode.errors import DimseError
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance

_AE, _CALLER = "ORTHANC", "DICOMNODE"
_PLUGIN = "libOrthancDicomWeb.so*"
_PLUGIN_FOLDERS = ("/usr/lib/orthanc", "/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins")


@dataclass(frozen=True, slots=True)
class Archive:
    """Where it takes C-STORE, and the port of its DICOMweb."""

    peer: Peer
    http_port: int

    def store(self, instances: Sequence[OutgoingInstance]) -> None:
        """C-STORE them all; raises DemoError where one is not taken."""
        failures: list[DimseError] = []

        def settle(_: OutgoingInstance, error: DimseError | None) -> None:
            if error is not None:
                failures.append(error)

        send(self.peer, _CALLER, instances, settle)
        if failures:
            raise DemoError(f"Orthanc did not take {len(failures)} of {len(instances)}: {failures[0]}")


@contextmanager
def serving_archive(folder: Path) -> Iterator[Archive]:
    """Run it for the block, with its store in `folder`. Raises DemoError."""
    program, plugin = find_orthanc()
    folder.mkdir(parents=True, exist_ok=True)
    dicom_port, http_port = free_ports(2)
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(_settings(folder, plugin, dicom_port, http_port)))
    with (folder / "log").open("wb") as log:
        # A session of its own: Ctrl-C reaches the viewer alone, which then stops Orthanc in order.
        process = subprocess.Popen(
            [program, str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, (dicom_port, http_port), folder / "log")
        yield Archive(Peer(_AE, LOCALHOST, dicom_port), http_port)
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_LIMIT_S)


def find_orthanc() -> tuple[Path, Path]:
    """The program and its DICOMweb plug-in; raises DemoError where one is missing."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise DemoError("Orthanc is missing, which the viewer reads from: make peers")
    plugins = [found for folder in _PLUGIN_FOLDERS for found in sorted(Path(folder).glob(_PLUGIN))]
    if not plugins:
        raise DemoError("Orthanc's DICOMweb plug-in is missing (Debian: orthanc-dicomweb): make peers")
    return Path(program), plugins[0]


def _settings(folder: Path, plugin: Path, dicom_port: int, http_port: int) -> dict[str, object]:
    return {
        "Name": "dicomnode",
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "Plugins": [str(plugin)],
        "DicomAet": _AE,
        "DicomPort": dicom_port,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "UnknownSopClassAccepted": True,
        "HttpServerEnabled": True,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Root": f"{DICOMWEB}/"},
    }


def _wait_until_ready(process: subprocess.Popen[bytes], ports: Sequence[int], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not all(_listens(port) for port in ports):
        if process.poll() is not None:
            raise DemoError(f"Orthanc ended while starting: {log.read_text(errors='replace')[-1000:]}")
        if time.monotonic() > deadline:
            raise DemoError(f"Orthanc does not listen after {START_LIMIT_S:g} s")
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOCALHOST, port)) == 0
