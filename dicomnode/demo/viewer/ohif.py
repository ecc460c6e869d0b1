"""OHIF as npm has it, built by its authors, at the version that was tested; and its settings."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dicomnode.demo.errors import DemoError

VERSION = "3.13.2"
PACKAGE = f"@ohif/app@{VERSION}"
DICOMWEB = "/dicom-web"
"""Where the viewer finds DICOMweb on the server that it came from itself."""
_LIMIT_S = 600.0


def find_ohif(folder: Path) -> Path:
    """The folder of the viewer's pages, in `folder` after the first time. Raises DemoError."""
    pages = folder / f"ohif-{VERSION}"
    if not pages.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as temporary:
            _download(Path(temporary))
            try:
                (Path(temporary) / "package" / "dist").rename(pages)
            except OSError:
                if not pages.is_dir():  # else another process was first
                    raise
    return pages


def app_config() -> str:
    """The viewer's `app-config.js`: this server's DICOMweb, and no questions before the first picture."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "archive",
        "configuration": {
            "friendlyName": "archive",
            "name": "archive",
            "qidoRoot": DICOMWEB,
            "wadoRoot": DICOMWEB,
            "wadoUriRoot": DICOMWEB,
            "qidoSupportsIncludeField": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": True},
        },
    }
    settings: dict[str, object] = {
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "strictZSpacingForVolumeViewport": True,
        "investigationalUseDialog": {"option": "never"},
        "customizationService": [{"ohif.tours": {"$set": []}}],
        "defaultDataSourceName": "archive",
        "dataSources": [source],
    }
    return f"window.config = {json.dumps(settings)};\n"


def viewer_url(origin: str, studies: Sequence[str]) -> str:
    """The page that opens these studies in the viewer's basic mode."""
    return f"{origin}/viewer?StudyInstanceUIDs={','.join(studies)}"


def _download(folder: Path) -> None:
    """`npm pack` takes the package alone; npm compares its digest with the registry's."""
    npm = shutil.which("npm")
    if npm is None:
        raise DemoError("npm is missing, which brings the viewer: make peers")
    command = [npm, "pack", "--silent", "--pack-destination", str(folder), PACKAGE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    if done.returncode:
        raise DemoError(f"npm cannot fetch {PACKAGE}: {done.stderr.strip()[-500:]}")
    (packed,) = folder.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
