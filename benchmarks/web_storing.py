"""Storing by STOW-RS, beside Orthanc with its DICOMweb plug-in, both in processes of their own.

300 CT slices of 512 by 512, in one request and one by one over one connection; the same client sends the same
bytes to both in turns, each time instances new to them. Both answer when the bytes are synced: Orthanc
as it is by default (SyncStorageArea), ours with folders and rows synced too.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from ipaddress import ip_network
from pathlib import Path

import numpy as np
from line import Line, Lines, lower
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from rich.console import Console

from dicomnode.demo.viewer.archive import serving_archive
from dicomnode.dicomweb import stow
from dicomnode.dicomweb.app import Admission, WebSettings, create_app
from dicomnode.dicomweb.server import WebServer
from dicomnode.logs import configure_logs
from dicomnode.services.ingest import Ingest
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore

SLICES, SIDE = 300, 512
TURNS = 3
BASE = "/dicom-web"
GOAL = 1.0
_BOUNDARY = b"a-boundary-of-the-benchmark"
_HEADERS = {
    "Content-Type": f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY.decode()}"',
    "Accept": "application/dicom+json",
}


def measure(folder: Path, console: Console) -> Lines:
    """The lines of this benchmark; in seconds, lower is better."""
    work = folder / "web_storing"
    shutil.rmtree(work, ignore_errors=True)
    together: list[tuple[float, float]] = []
    single: list[tuple[float, float]] = []
    with serving_archive(work / "orthanc") as orthanc, _ours(work / "ours") as port:
        for turn in range(TURNS):
            console.print(f"web storing: {SLICES} CT slices, turn {turn + 1} of {TURNS}")
            for requests, results in ((1, together), (SLICES, single)):
                series = _series()
                size = len(series) // requests
                bodies = [_body(series[at : at + size]) for at in range(0, len(series), size)]
                ours, theirs = (_seconds(each, bodies, size) for each in (port, orthanc.http_port))
                results.append((ours, theirs))
    shutil.rmtree(work)
    return {
        f"STOW-RS: {SLICES} CT slices in one request": _line(together),
        f"STOW-RS: {SLICES} CT slices one by one": _line(single),
    }


def _line(turns: Sequence[tuple[float, float]]) -> Line:
    ours, theirs = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    return lower(ours, theirs, "s", GOAL)


def _seconds(port: int, bodies: Sequence[bytes], instances: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    began = time.perf_counter()
    for body in bodies:
        connection.request("POST", f"{BASE}/studies", body, _HEADERS)
        answer = connection.getresponse()
        text = answer.read()
        stored = json.loads(text).get("00081199", {}).get("Value", [])
        assert (answer.status, len(stored)) == (200, instances), text[:500]
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def _body(instances: Sequence[bytes]) -> bytes:
    begin = b"--" + _BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(begin + each + b"\r\n" for each in instances) + b"--" + _BOUNDARY + b"--\r\n"


def _series() -> list[bytes]:
    random = np.random.default_rng()
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.Modality, ds.ImageType = CTImageStorage, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Bench^Mark", "1", "", ""
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20260101", "120000", "A1", "1"
    ds.FrameOfReferenceUID, ds.SeriesNumber = generate_uid(), 1
    ds.ImageOrientationPatient, ds.PixelSpacing = ["1", "0", "0", "0", "1", "0"], ["0.8", "0.8"]
    ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = "1.5", "1", "-1024"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", SIDE, SIDE
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    made = []
    for index in range(SLICES):
        ds.SOPInstanceUID = generate_uid()
        ds.InstanceNumber, ds.ImagePositionPatient = index + 1, ["-200", "-200", str(index * 1.5)]
        ds.PixelData = random.integers(0, 4096, (SIDE, SIDE), np.uint16).tobytes()
        buffer = BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        made.append(buffer.getvalue())
    return made


@contextmanager
def _ours(folder: Path) -> Iterator[int]:
    command = [sys.executable, __file__, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(20)


def _serve(folder: Path) -> None:
    configure_logs("error", "json", process="web")
    folder.mkdir(parents=True)
    database = Database(f"sqlite:///{folder / 'dicomnode.sqlite3'}")
    database.upgrade()
    ingest = Ingest(database, ObjectStore(folder, 0))
    settings = WebSettings(BASE, (Admission("*", ip_network("127.0.0.0/8")),))
    server = WebServer(create_app(settings, stow.routes(ingest, "DICOMNODE")), "127.0.0.1", 0)
    server.start()
    print(server.port, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
