"""Reading by DICOMweb, beside Orthanc with its DICOMweb plug-in, both in processes of their own.

WADO-RS: one series of 300 CT slices of 512 by 512, as it was stored. QIDO-RS: a mix of searches, as
worklists and viewers make them, over catalogs of 10⁴, 10⁵ and 10⁶ instances entered in bulk. Orthanc takes
each instance as a file, so it has 10⁴: ours is compared with that, with up to a hundred times as much.
"""

from __future__ import annotations

import http.client
import io
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import quote

import catalog
from line import Lines, lower
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from rich.console import Console

from dicomnode.demo.viewer.archive import serving_archive

SIZES = (10_000, 100_000, 1_000_000)
SLICES, SIDE = 300, 512
ROUNDS, SEARCHES, WARM_UP = 5, 320, 20
BASE = "/dicom-web"
GROWTH_GOAL, GOAL = 1.5, 1.0
_FIELDS = "includefield=StudyDescription&limit=25"
_DICOM = 'multipart/related; type="application/dicom"'


def measure(folder: Path, console: Console) -> Lines:
    """The lines of this benchmark."""
    work = folder / "web_reading"
    shutil.rmtree(work, ignore_errors=True)
    console.print("web reading: a series of CT slices, in both")
    with serving_archive(work / "orthanc") as orthanc, _ours(work / "ours", "series") as port:
        files = _series()
        _upload(orthanc.http_port, files)
        path = f"{BASE}/studies/1.2.3/series/1.2.3.4"
        ours, theirs = _retrieval([port, orthanc.http_port], path)
        lines = {f"WADO-RS: a series of {SLICES} CT slices": lower(ours, theirs, "s", GOAL)}
        console.print("web reading: searches")
        _upload(orthanc.http_port, _tiny(SIZES[0]))
        with ExitStack() as stack:
            ports = {size: stack.enter_context(_ours(work / f"{size}", str(size))) for size in SIZES}
            found = _searches([(orthanc.http_port, SIZES[0]), *((ports[size], size) for size in SIZES)])
    theirs, ours_by_size = found[0], dict(zip(SIZES, found[1:], strict=True))
    for size, ours in ours_by_size.items():
        name = f"QIDO-RS: p95 of searches, {size:,} instances (theirs {SIZES[0]:,})"
        lines[name] = lower(ours, theirs, "ms", GOAL)
    name = f"QIDO-RS: p95 with {SIZES[-1]:,} instances beside {SIZES[0]:,}, both ours"
    lines[name] = lower(ours_by_size[SIZES[-1]], ours_by_size[SIZES[0]], "ms", GROWTH_GOAL)
    shutil.rmtree(work)
    return lines


def _retrieval(ports: Sequence[int], path: str) -> list[float]:
    """Of each server the median of seconds from the request to the last byte; all pixels have to be there."""
    seconds: list[list[float]] = [[] for _ in ports]
    for _ in range(ROUNDS):
        for port, times in zip(ports, seconds, strict=True):
            began = time.perf_counter()
            size = _get(http.client.HTTPConnection("127.0.0.1", port), path, _DICOM)[1]
            times.append(time.perf_counter() - began)
            assert size > SLICES * SIDE * SIDE * 2
    return [statistics.median(times) for times in seconds]


def _searches(servers: Sequence[tuple[int, int]]) -> list[float]:
    """The 95th percentile of each server, given by port and size, in milliseconds, on one connection each.

    They are asked in turn, so that whatever else the machine does hits all of them.
    """
    connections = [http.client.HTTPConnection("127.0.0.1", port) for port, _ in servers]
    milliseconds: list[list[float]] = [[] for _ in servers]
    asked = zip(*(_paths(size) for _, size in servers), strict=True)
    for number, paths in enumerate(asked):
        for connection, path, times in zip(connections, paths, milliseconds, strict=True):
            began = time.perf_counter()
            status, _ = _get(connection, path, "application/dicom+json")
            assert status in (200, 204)
            if number >= WARM_UP:
                times.append((time.perf_counter() - began) * 1000)
    return [statistics.quantiles(times, n=20)[-1] for times in milliseconds]


def _paths(instances: int) -> Iterator[str]:
    """What worklists and viewers ask, in turn, each time of another study."""
    chosen = random.Random(5)  # noqa: S311  no secret
    entries = catalog.entries(instances)
    for number in range(SEARCHES):
        entry = chosen.choice(entries)
        study = f"{BASE}/studies/{entry.uid}"
        family = quote(entry.name.partition("^")[0])
        yield (
            f"{BASE}/studies?{_FIELDS}",
            f"{BASE}/studies?StudyDate={entry.date}&{_FIELDS}",
            f"{BASE}/studies?PatientID={entry.patient}&{_FIELDS}",
            f"{BASE}/studies?AccessionNumber={entry.accession}&{_FIELDS}",
            f"{BASE}/studies?PatientName={family}*&{_FIELDS}",
            f"{study}/series",
            f"{study}/series/{entry.series(1)}/instances",
            f"{BASE}/instances?SOPInstanceUID={entry.series(2)}.7",
        )[number % 8]


def _get(connection: http.client.HTTPConnection, path: str, accept: str) -> tuple[int, int]:
    """Status, and how many bytes came."""
    connection.request("GET", path, headers={"Accept": accept})
    answer, size = connection.getresponse(), 0
    while chunk := answer.read(1 << 20):
        size += len(chunk)
    return answer.status, size


def _upload(port: int, files: Sequence[bytes]) -> None:
    """Into Orthanc, by archives of a thousand files: the fastest way that it has."""
    for start in range(0, len(files), 1000):
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w", zipfile.ZIP_STORED) as archive:
            for number, file in enumerate(files[start : start + 1000]):
                archive.writestr(f"{number}.dcm", file)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/instances", body.getvalue())
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()


def _series() -> list[bytes]:
    names = ("1.2.3", "1.2.3.4")
    pixels = random.Random(6).randbytes(SIDE * SIDE * 2)  # noqa: S311  no secret
    return [_file(*names, f"1.2.3.4.{number}", number, pixels) for number in range(1, SLICES + 1)]


def _tiny(instances: int) -> list[bytes]:
    return [
        _file(entry.uid, entry.series(place), f"{entry.series(place)}.{number}", number, None, entry)
        for entry in catalog.entries(instances)
        for place in range(1, catalog.OF_STUDY + 1)
        for number in range(1, catalog.OF_SERIES + 1)
    ]


def _file(
    study: str,
    series: str,
    instance: str,
    number: int,
    pixels: bytes | None,
    entry: catalog.Entry | None = None,
) -> bytes:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, instance, "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientID, ds.PatientName = (entry.patient, entry.name) if entry else ("P1", "Phantom")
    ds.StudyDate, ds.AccessionNumber = (entry.date, entry.accession) if entry else ("20260102", "A1")
    ds.StudyTime, ds.StudyDescription, ds.InstanceNumber = "101112", "Head", number
    if pixels is not None:
        ds.Rows = ds.Columns = SIDE
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = pixels
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def _ours(folder: Path, what: str) -> Iterator[int]:
    """Our server in a process of its own; `what`: the series, or a catalog of so many instances. Its port."""
    folder.mkdir(parents=True)
    command = [sys.executable, __file__, str(folder), what]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(json.loads(process.stdout.readline()))
    finally:
        process.communicate("", timeout=60)


def _serve(folder: Path, what: str) -> None:
    """What that process does, until its input ends."""
    import logging

    import structlog

    from dicomnode.dicomweb.app import Admission, WebSettings, create_app
    from dicomnode.dicomweb.server import WebServer
    from dicomnode.model.instance import AssociationFacts, Received
    from dicomnode.services.ingest import Ingest
    from dicomnode.services.reading import reading_routes
    from dicomnode.store.database import Database
    from dicomnode.store.objects import ObjectStore

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    database, objects = Database(f"sqlite:///{folder / 'catalog.sqlite3'}"), ObjectStore(folder, 0)
    database.upgrade()
    if what == "series":
        facts = AssociationFacts("bench", "CT1", "NODE", "127.0.0.1")
        ingest = Ingest(database, objects)
        for file in _series():
            head = 144 + int.from_bytes(file[140:144], "little")
            name = str(dcmread(io.BytesIO(file), specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
            ingest.store(Received(facts, CTImageStorage, name, ExplicitVRLittleEndian, file[head:]))
    else:
        catalog.fill(database, int(what))
    settings = WebSettings(BASE, (Admission("*", ip_network("127.0.0.0/8")),))
    server = WebServer(create_app(settings, reading_routes(database, objects)), "127.0.0.1", 0)
    server.start()
    print(server.port, flush=True)
    sys.stdin.read()
    server.stop(5)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
