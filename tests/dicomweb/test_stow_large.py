"""Memory stays flat, however large an instance or a request is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import httpx
import pytest

from tests.dicomweb.web import BOUNDARY, PATH, part10, related
from tests.harness.heads import small_series

ROOT = Path(__file__).parents[2]
PROGRAM = """
import logging, sys, threading
from pathlib import Path
import structlog
from tests.dicomweb.web import serving
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
with serving(Path(sys.argv[1])) as web:
    print(web.server.port, flush=True)
    sys.stdin.read()
"""
BLOCK = bytes(range(256)) * 4096
MEGABYTES = 2050
GROWTH_MB = 60


def grown_mb(process: Popen[str], before: int) -> float:
    return (resident(process) - before) / 1e6


def resident(process: Popen[str]) -> int:
    """The most memory that the process has had so far, in bytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def large_instance(megabytes: int) -> Iterator[bytes]:
    """One body with one instance; httpx sends it chunked."""
    ds = small_series(1)[0]
    del ds.PixelData
    yield f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + part10(ds)
    yield b"\xe0\x7f\x10\x00OW\x00\x00" + (megabytes * len(BLOCK)).to_bytes(4, "little")
    for _ in range(megabytes):
        yield BLOCK
    yield f"\r\n--{BOUNDARY}--".encode()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="not run here: Linux's /proc")
def test_an_instance_of_more_than_two_gigabytes_costs_little_memory(tmp_path):
    with Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=PIPE,
        stdout=PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ,
    ) as process:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}{PATH}/studies"
        headers = {"Content-Type": related()}
        assert httpx.post(url, content=large_instance(8), headers=headers, timeout=60).status_code == 200
        before = resident(process)
        answer = httpx.post(url, content=large_instance(MEGABYTES), headers=headers, timeout=240)
        assert answer.status_code == 200
        assert grown_mb(process, before) < GROWTH_MB
        process.stdin.close()
    sizes = sorted(path.stat().st_size for path in (tmp_path / "objects").rglob("*") if path.is_file())
    assert sizes[-1] > MEGABYTES * len(BLOCK)
