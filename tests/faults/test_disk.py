"""The disk is full, and later has room again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import NOT_RUN_HERE
from tests.faults.books import Archive, Scene
from tests.harness.toy_pipeline import write_toy_pipeline


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """A file system of that size at `folder`."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip(f"{NOT_RUN_HERE}the right to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_and_loses_nothing_that_was_acknowledged(
    tmp_path: Path, archive: Archive
) -> None:
    write_toy_pipeline(tmp_path / "toys")
    data = tmp_path / "node" / "data"
    with small_disk(data, 64):
        scene = Scene(tmp_path, archive, tmp_path / "toys")
        scene.node.start()
        ballast = data / "ballast"
        try:
            scene.files, later = scene.files[:5], scene.files[5:]
            scene.send()
            assert len(scene.acknowledged) == 5
            fill(ballast)
            scene.files += later
            scene.send()
            assert len(scene.acknowledged) < len(scene.files)
            ballast.unlink()
            scene.settle()
        finally:
            if scene.node.alive():
                scene.node.kill()


def fill(ballast: Path) -> None:
    """Take what room there is."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
