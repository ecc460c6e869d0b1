"""The demo ends with status 0 only if the archive holds both results; it leaves no server behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from dicomnode.dimse.query import listed_instances
from tests.demo.builders import BLOCK_ML, write_block_series
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.peers import free_port, listens, orthanc, wait_for

ROOT = Path(__file__).parents[2]
LIMIT_S = 200


class Demo:
    """`python -m dicomnode.demo` with the toy pipeline and a small series, all of it in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_toy_pipeline(folder / "pipelines")
        self.files = write_block_series(folder / "series")

    def command(self, *options: str) -> list[str]:
        common = ["--input", "series", "--pipelines", "pipelines", "--pipeline", "toy", "--out", "out"]
        return [sys.executable, "-m", "dicomnode.demo", *common, *options]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(), cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL
        )

    def ports(self) -> list[int]:
        """Where the servers of all runs were told to listen."""
        configs = self.folder.glob("out/*/*/config.toml")
        # A file may be there a moment before its text is.
        written = [tomllib.loads(file.read_text()) for file in configs]
        return [config["dimse"]["port"] for config in written if "dimse" in config]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    played = Demo(tmp_path)
    yield played
    assert not [port for port in played.ports() if listens(port)]


def uid_after(said: str, what: str) -> str:
    return re.search(rf"{what}\s*│\s*([0-9.]+)", said)[1]


def test_the_way_ends_in_an_archive_of_its_own_with_volumes_uids_picture_and_seconds(demo: Demo):
    done = demo.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"Tissue\s*│\s*Volume\s*│\s*{BLOCK_ML:.1f} ml", done.stdout)
    study = str(pydicom.dcmread(demo.files[0], stop_before_pixels=True).StudyInstanceUID)
    assert uid_after(done.stdout, "Study") == study
    assert uid_after(done.stdout, "SEG instance") != uid_after(done.stdout, "SR instance")
    for stage in ("receive", "wait until complete", "decode", "forward", "encode", "deliver", "confirm"):
        assert re.search(rf"{stage}\s*│\s*\d+\.\d\d", done.stdout), stage
    picture = Path(re.search(r"Picture: (.*)", done.stdout)[1])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(demo.ports()) == 2


def test_orthanc_holds_both_results_where_it_is_the_archive(demo: Demo, tmp_path: Path):
    modality = {"DicomModalities": {"node": ["DICOMNODE", "127.0.0.1", free_port()]}}
    with orthanc(tmp_path / "orthanc", DicomAlwaysAllowFind=False, **modality) as archive:
        done = demo.run("--archive", f"127.0.0.1:{archive.port}", "--archive-ae", archive.ae_title)
        assert done.returncode == 0, done.stdout + done.stderr
        study = uid_after(done.stdout, "Study")
        for role in ("SEG", "SR"):
            series, instance = (uid_after(done.stdout, f"{role} {level}") for level in ("series", "instance"))
            assert listed_instances(archive, "DICOMNODE", study, series) == {instance}


def test_an_archive_that_does_not_answer_is_named_before_anything_is_sent(demo: Demo):
    done = demo.run("--archive", f"127.0.0.1:{free_port()}", "--archive-ae", "NOBODY")
    assert done.returncode == 1
    assert "NOBODY" in done.stdout
    assert "DICOMNODE" in done.stdout


def test_a_refused_series_ends_the_demo_with_the_reason_and_the_log(demo: Demo):
    for file in demo.files:
        ds = pydicom.dcmread(file)
        ds.Modality = "OT"
        ds.save_as(file)
    done = demo.run()
    assert done.returncode == 1
    assert "NOT_MR: The series is not MR." in done.stdout
    assert "the end of" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_its_servers(demo: Demo, number: signal.Signals):
    process = demo.start()
    try:
        wait_for(lambda: len(demo.ports()) == 2 and all(map(listens, demo.ports())))
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 130
    finally:
        process.kill()
