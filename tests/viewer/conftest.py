"""An Orthanc with the studies, OHIF served beside it, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from dicomnode.demo.errors import DemoError
from dicomnode.demo.viewer.archive import Archive, find_orthanc, serving_archive
from dicomnode.demo.viewer.ohif import app_config, find_ohif
from dicomnode.demo.viewer.server import serving_viewer
from tests.conftest import NOT_RUN_HERE, ROOT
from tests.results.conftest import manifest, provenance  # noqa: F401  the same as the results' tests have
from tests.viewer.ohif import chromium

KEPT = ROOT / "build" / "viewer"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module: while it lives, its loop runs in this thread, and no test can run one of its own."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def pages() -> Path:
    try:
        return find_ohif(KEPT)
    except DemoError as error:
        pytest.skip(f"{NOT_RUN_HERE}OHIF: {error}")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    try:
        find_orthanc()
    except DemoError as error:
        pytest.skip(f"{NOT_RUN_HERE}{error}")
    with serving_archive(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="session")
def origin(pages: Path, archive: Archive) -> Iterator[str]:
    with serving_viewer(pages, app_config(), archive.http_port) as url:
        yield url
