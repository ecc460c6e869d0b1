"""Reading a series of 300 slices of 512² into an array, beside SimpleITK's series reader.

Both start from a folder of files whose names tell no order and end with an array in slice order. They take
turns, each in processes of its own that have read the series once before, on files that the system has in
memory; the median of each counts.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import SimpleITK
from line import Lines, lower
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid
from rich.console import Console

from dicomnode.imaging.volume import read_volume

SLICES, ROWS = 300, 512
NAMES = {ExplicitVRLittleEndian: "uncompressed", JPEG2000Lossless: "JPEG 2000"}
READS = {ExplicitVRLittleEndian: 5, JPEG2000Lossless: 1}
TURNS = 3
GOAL = 1.0


def measure(folder: Path, console: Console) -> Lines:
    """The lines of this benchmark; in seconds, lower is better."""
    lines: Lines = {}
    for syntax, name in NAMES.items():
        series = folder / f"reading-{name.replace(' ', '-')}"
        with console.status(f"reading {SLICES} slices, {name}"):
            _write(series, syntax)
            _require_same_values(series)
            turns = [[_turn(side, series, READS[syntax]) for side in _READERS] for _ in range(TURNS)]
        shutil.rmtree(series)
        ours, theirs = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
        lines[f"reading: {SLICES} slices of {ROWS}², {name}, beside SimpleITK"] = lower(
            ours, theirs, "s", GOAL
        )
    return lines


def _require_same_values(folder: Path) -> None:
    if not np.array_equal(_by_dicomnode(folder), SimpleITK.GetArrayFromImage(_by_simple_itk(folder))):
        raise ValueError("the two readers do not read the same values")


def _turn(side: str, folder: Path, reads: int) -> float:
    """The median seconds of reading the series, in a new process."""
    command = [sys.executable, __file__, side, str(folder), str(reads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    return float(done.stdout.split()[-1])


def _seconds(side: str, folder: Path) -> float:
    started = time.perf_counter()
    _READERS[side](folder)
    return time.perf_counter() - started


def _by_dicomnode(folder: Path) -> NDArray[np.float32]:
    return read_volume(list(folder.iterdir())).array


def _by_simple_itk(folder: Path) -> SimpleITK.Image:
    """An image; its array is a view that costs nothing."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


_READERS: dict[str, Callable[[Path], object]] = {"dicomnode": _by_dicomnode, "SimpleITK": _by_simple_itk}


def _write(folder: Path, syntax: UID) -> None:
    """A body-like CT with the noise of a scanner; files are named against the slice order."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    down, right = np.mgrid[-1 : 1 : ROWS * 1j, -1 : 1 : ROWS * 1j]
    series = _series(syntax)
    for index in range(SLICES):
        inside = down**2 + (right / (0.8 + 0.1 * np.sin(index / 40))) ** 2 < 0.8
        body = np.where(inside, 1064 + 60 * np.sin(9 * right + index / 20) * np.cos(7 * down), 24)
        stored = np.clip(body + random.normal(0, 12, body.shape), 0, 4095).astype(np.uint16)
        series.SOPInstanceUID = series.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        series.ImagePositionPatient = ["-200", "-200", str(index * 1.5)]
        series.InstanceNumber = index + 1
        if syntax.is_encapsulated:
            frame = imagecodecs.jpeg2k_encode(stored, codecformat="j2k", reversible=True, level=0)
            series.PixelData = encapsulate([frame])
        else:
            series.PixelData = stored.astype("<u2").tobytes()
        series["PixelData"].VR = "OB" if syntax.is_encapsulated else "OW"
        series["PixelData"].is_undefined_length = syntax.is_encapsulated
        series.save_as(folder / f"{SLICES - index:04}.dcm", enforce_file_format=True)


def _series(syntax: UID) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPClassUID = syntax, CTImageStorage
    ds.SOPClassUID, ds.Modality, ds.ImageType = CTImageStorage, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Bench^Mark", "1", "", ""
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.FrameOfReferenceUID, ds.SeriesNumber = generate_uid(), 1
    ds.ImageOrientationPatient, ds.PixelSpacing = ["1", "0", "0", "0", "1", "0"], ["0.8", "0.8"]
    ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = "1.5", "1", "-1024"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = ROWS
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    return ds


if __name__ == "__main__":
    side, folder, reads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    print(statistics.median([_seconds(side, folder) for _ in range(reads + 1)][1:]))
