"""The receivers that ingest is measured beside, each in a process of its own with its store in a folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from scanner import Target

from dicomnode.demo.servers import free_ports
from dicomnode.store.database import Database

_START_LIMIT_S, _STOP_LIMIT_S = 60.0, 20.0


@contextmanager
def dicomnode(folder: Path, filled: Callable[[Database], None] | None = None) -> Iterator[Target]:
    """The whole node as it is by default, without a pipeline; `filled`: what its database holds before."""
    dicom, web = free_ports(2)
    folder.mkdir(parents=True)
    (folder / "pipelines").mkdir()
    everybody = '[{ ae_title = "*", address = "127.0.0.0/8" }]'
    (folder / "config.toml").write_text(
        f'[node]\nae_title = "NODE"\ndata = "data"\nminimum_free_mb = 1\n'
        f"[dimse]\nport = {dicom}\naccept = {everybody}\n[web]\nport = {web}\n"
        f'[pipelines]\nfolder = "pipelines"\n[logs]\nlevel = "warning"\n'
    )
    if filled is not None:
        _fill(folder, filled)
    command = [sys.executable, "-m", "dicomnode", "serve", "--config", str(folder / "config.toml")]
    with _running(command, folder, dicom) as pid:
        yield Target("NODE", dicom, pid)


def _fill(folder: Path, filled: Callable[[Database], None]) -> None:
    (folder / "data").mkdir()
    database = Database(f"sqlite:///{folder / 'data' / 'dicomnode.sqlite3'}")
    try:
        database.upgrade()
        filled(database)
    finally:
        database.close()


@contextmanager
def orthanc(folder: Path) -> Iterator[Target]:
    """Orthanc on SQLite, which syncs what it keeps before it answers, with a thread for each association."""
    (port,) = free_ports(1)
    folder.mkdir(parents=True)
    store = str(folder / "store")
    settings = {
        "StorageDirectory": store,
        "IndexDirectory": store,
        "SyncStorageArea": True,
        "Plugins": [],
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "DicomThreadsCount": 16,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "HttpServerEnabled": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    with _running([program or "Orthanc", str(folder / "orthanc.json")], folder, port):
        yield Target("ORTHANC", port)


@contextmanager
def storescp(folder: Path) -> Iterator[Target]:
    """DCMTK's, a process for each association; it writes what comes, and neither syncs nor indexes."""
    (port,) = free_ports(1)
    folder.mkdir(parents=True)
    program = shutil.which("storescp", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin") or "storescp"
    command = [program, "--fork", "+B", "-pdu", "131072", "-od", str(folder), "-aet", "STORESCP", str(port)]
    with _running(command, folder, port):
        yield Target("STORESCP", port)


@contextmanager
def pynetdicom(folder: Path) -> Iterator[Target]:
    """pynetdicom's receiver with its own settings; what comes is written, and not synced."""
    (port,) = free_ports(1)
    folder.mkdir(parents=True)
    with _running([sys.executable, __file__, str(folder), str(port)], folder, port):
        yield Target("PYNETDICOM", port)


SIDES: dict[str, Callable[[Path], AbstractContextManager[Target]]] = {
    "dicomnode": dicomnode,
    "orthanc": orthanc,
    "storescp": storescp,
    "pynetdicom": pynetdicom,
}
NAMES = {
    "orthanc": "Orthanc",
    "storescp": "storescp --fork",
    "pynetdicom": "pynetdicom's receiver",
    "disk": "the disk's own limit",
}


def peak_memory_mb(target: Target) -> float:
    """The most memory that any process had which the first one of a receiver has started."""
    peaks = []
    for process in _with_descendants(target.pid)[1:]:
        status = (Path("/proc") / str(process) / "status").read_text()
        peaks += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    return max(peaks) / 1000


def _with_descendants(pid: int) -> list[int]:
    children = (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()
    return [pid, *(each for child in children for each in _with_descendants(int(child)))]


@contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator[int]:
    with (folder / "log").open("wb") as log:
        environment = {**os.environ, "TCP_NODELAY": "1"}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        deadline = time.monotonic() + _START_LIMIT_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]}: {(folder / 'log').read_text(errors='replace')[-1000:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(_STOP_LIMIT_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _plain_scp(folder: Path, port: int) -> None:
    from pynetdicom import AE, StoragePresentationContexts, evt

    def handle(event: evt.Event) -> int:
        request = event.request
        with (folder / str(request.AffectedSOPInstanceUID)).open("wb") as file:
            file.write(b"\0" * 128 + b"DICM")
            file.write(request.DataSet.getvalue())
        return 0x0000

    ae = AE("PYNETDICOM")
    ae.supported_contexts = StoragePresentationContexts
    ae.maximum_associations = 100
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, handle)])


if __name__ == "__main__":
    _plain_scp(Path(sys.argv[1]), int(sys.argv[2]))
