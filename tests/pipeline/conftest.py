"""Toy bundles and series for the tests of pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers
from dicomnode.pipeline.registry import InstalledPipeline, open_pipeline
from dicomnode.pipeline.runner import Runner, RunOutcome
from dicomnode.rules.rule import check_rule
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.imaging.builders import AXIAL, mr_headers, write_series


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., InstalledPipeline]:
    """Write the toy pipeline and open it; `edit` changes its files in between."""

    def make(edit: Callable[[Path], None] = lambda _: None, **options: object) -> InstalledPipeline:
        folder = write_toy_pipeline(tmp_path / "pipelines", **options)
        edit(folder)
        return open_pipeline(folder, check_rule)

    return make


@pytest.fixture
def runner_of(install, tmp_path) -> Iterator[Callable[..., Runner]]:
    """A runner of a toy; it is closed in the end."""
    made = []

    def make(edit=lambda _: None, start_limit_s=120.0, recycle_after=100, **options) -> Runner:
        made.append(
            Runner(
                install(edit, **options),
                "cpu",
                tmp_path / "scratch",
                tmp_path,
                start_limit_s=start_limit_s,
                recycle_after=recycle_after,
            )
        )
        return made[-1]

    yield make
    for runner in made:
        runner.close()


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """Five slices, half of whose voxels are above 500."""
    return write_noise(tmp_path / "series", AXIAL)[0]


def run(runner: Runner, paths: list[Path], **options: object) -> RunOutcome:
    """Run a series as the services do: its grid comes from its headers."""
    return runner.run(paths, series_geometry(read_headers(paths))[0], **options)


def write_noise(folder, orientation, shape=(5, 12, 10)):
    """A series of noise from 0 to 999 and its values (slices, rows, columns)."""
    folder.mkdir()
    frames = np.random.default_rng(7).integers(0, 1000, shape).astype(np.uint16)
    return write_series(mr_headers(orientation, shape), frames, folder), frames
