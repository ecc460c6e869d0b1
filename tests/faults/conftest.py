"""The archive and the scene that each fault is played in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.books import Archive, Scene, archive_in


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    yield from archive_in(tmp_path)


@pytest.fixture
def scene(tmp_path: Path, archive: Archive) -> Iterator[Scene]:
    scene = Scene(tmp_path, archive, tmp_path / "pipelines")
    yield scene
    if scene.node.alive():
        scene.node.kill()
