"""Outside readers of what dicomnode writes: PixelMed, dcmqi and DCMTK. Each skips where it is missing.

Any DICOM file goes into `dcmtk_problems`, `dcmtk_dump`; any report into `pixelmed_problems`,
`dcmtk_report`; a TID 1500 report into `dcmqi_report`; a Segmentation into `dcmqi_masks`; what has frames
into `dcmtk_frame`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests import peers
from tests.conftest import NOT_RUN_HERE

LIMIT_S = 240
# Without the limits of XPath lifted, Java 17 refuses PixelMed's templates; C1 alone halves its seconds.
_JAVA = " ".join(
    (
        "-Djdk.xml.xpathTotalOpLimit=0 -Djdk.xml.xpathExprOpLimit=0 -Djdk.xml.xpathExprGrpLimit=0",
        "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    )
)
# Errors of the IOD have no mark of their own, so all that is not one of these counts.
_PIXELMED_SAYS_ANYWAY = ("Found ", "Warning", "Root Template Validation Complete", "IOD validation complete")
_PIXELMED_ENDS_WITH = "IOD validation complete"
# What DCMTK 3.6.7 says of every data set in UTF-8, whatever is in it.
_VR_CHECKER = "The VR checker does not support this Specific Character Set"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Mask:
    """One segment as dcmqi reads it.

    `voxels`: bool, (slices, rows, columns). `affine` (4×4) takes an index (slice, row, column, 1) to LPS mm.
    `attributes` are dcmqi's own: SegmentLabel, labelID, recommendedDisplayRGBValue, TrackingIdentifier…
    """

    voxels: NDArray[np.bool_]
    affine: NDArray[np.float64]
    attributes: dict[str, Any]

    def on_grid(self, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        """The mask on a grid with the same voxels in another order; fails where one falls between two."""
        here = np.argwhere(self.voxels)
        lps = here @ self.affine[:3, :3].T + self.affine[:3, 3]
        there = (lps - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        index = np.rint(there).astype(int)
        assert np.abs(there - index).max(initial=0.0) < 0.01, "the mask is not on the grid"
        grid = np.zeros(shape, bool)
        grid[tuple(index.T)] = True
        return grid


def pixelmed_problems(path: Path) -> list[str]:
    """The errors of PixelMed's DicomSRValidator about a report; warnings do not count. Takes about 10 s."""
    said = _run("DicomSRValidator", _debian("DicomSRValidator"), path, env={"JAVA_TOOL_OPTIONS": _JAVA})
    lines = [
        line.strip()
        for line in (said.stderr + said.stdout).splitlines()
        if not line.startswith("Picked up JAVA_TOOL_OPTIONS")
    ]
    problems = [line for line in lines if line and not line.startswith(_PIXELMED_SAYS_ANYWAY)]
    return problems if lines[-1:] == [_PIXELMED_ENDS_WITH] else [*problems, "it did not come to its end"]


def dcmqi_masks(path: Path) -> list[Mask]:
    """Each segment of a Segmentation, by dcmqi's segimage2itkimage; fails where dcmqi refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nii"]
        _run_well("segimage2itkimage", *arguments)
        groups = json.loads((Path(folder) / "meta.json").read_text())["segmentAttributes"]
        return [
            _mask(Path(folder) / f"{number}.nii.gz", attributes)
            for number, group in enumerate(groups, 1)
            for attributes in group
        ]


def dcmqi_report(path: Path) -> dict[str, Any]:
    """A TID 1500 report, by dcmqi's tid1500reader; fails where dcmqi refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        _run_well("tid1500reader", "--inputDICOM", path, "--outputMetadata", out)
        report: dict[str, Any] = json.loads(out.read_text(errors="replace"))
        return report


def dcmtk_dump(path: Path) -> str:
    """The whole data set as dcmdump prints it, values in full."""
    return peers.run("dcmdump", "+L", path).stdout


def dcmtk_problems(path: Path) -> list[str]:
    """What dcmdump complains of."""
    done = peers.run("dcmdump", path, check=False)
    return [line for line in done.stderr.splitlines() if line] + [f"status {done.returncode}"] * bool(
        done.returncode
    )


def dcmtk_report(path: Path) -> str:
    """A report as dsrdump prints it; fails where dsrdump refuses it or complains."""
    done = peers.run("dsrdump", "+U8", "+Pl", "+Pc", path)
    complaints = [line for line in done.stderr.splitlines() if _VR_CHECKER not in line]
    assert not complaints, complaints
    return done.stdout


def dcmtk_frame(path: Path, frame: int = 1) -> NDArray[np.uint8]:
    """One frame, counted from 1, as dcm2pnm draws it, from its least to its greatest value; (rows, columns)
    of grey or (rows, columns, 3) of colour."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "frame.pnm"
        peers.run("dcm2pnm", "+F", frame, "+Wm", path, out)
        with Image.open(out) as image:
            return np.asarray(image)


def _mask(file: Path, attributes: dict[str, Any]) -> Mask:
    volume = nibabel.load(file)
    # NIfTI's indices are (column, row, slice), and its coordinates RAS.
    affine = _RAS_TO_LPS @ np.asarray(volume.affine, np.float64)
    return Mask(
        voxels=np.asarray(volume.dataobj).transpose(2, 1, 0) == attributes["labelID"],
        affine=affine[:, [2, 1, 0, 3]],
        attributes=attributes,
    )


def _debian(program: str) -> str:
    return shutil.which(program) or pytest.skip(f"{NOT_RUN_HERE}{program}")


def _run_well(program: str, *arguments: str | Path) -> None:
    """One of dcmqi's programs, which lie beside Python and end with 0 whatever happened."""
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if found is None:
        pytest.skip(f"{NOT_RUN_HERE}{program}")
    said = _run(program, found, *arguments)
    problems = [line for line in said.stderr.splitlines() if line.startswith(("E:", "F:", "Error", "ERROR"))]
    assert said.returncode == 0, f"{program}: {said.stderr}"
    assert not problems, f"{program}: {problems}"


def _run(
    name: str, *command: str | Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(each) for each in command],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=LIMIT_S,
            env={"PATH": "/usr/bin:/bin", **(env or {})},
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"{name} took more than {LIMIT_S} s")
