"""A Segmentation of 1, 20 and 100 segments over 300 slices of 512²: seconds and peak memory, beside dcmqi's.

dcmqi's `itkimage2segimage` is timed as a whole command, from files to file, as it is meant to be used. Ours
is timed from the label map and the headers in memory to the bytes on the disk; the gate that reads them back
is timed beside it, and so is the whole process from files to file, Python's imports and the gate included.
Each runs in a process of its own, whose peak memory the kernel tells. Both leave out frames without a voxel,
which is what dcmqi does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import nibabel
import numpy as np
from line import Lines, lower
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from rich.console import Console

SEGMENTS = (1, 20, 100)
SHAPE = (300, 512, 512)
SPACING_MM = (0.8, 0.8, 1.0)
TIME_GOAL, MEMORY_GOAL = 0.5, 1.0
_TISSUE = ["85756007", "SCT", "Tissue"]
_TISSUE_BY_KEY = {
    "CodeValue": "85756007",
    "CodingSchemeDesignator": "SCT",
    "CodeMeaning": "Tissue",
}


class Cost(TypedDict):
    """Of one process: wall-clock seconds and the peak of its resident memory."""

    seconds: float
    memory_mb: float


def measure(folder: Path, console: Console) -> Lines:
    """The lines of this benchmark."""
    spec = importlib.util.find_spec("dcmqi")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("dcmqi is not installed (PyPI dcmqi)")
    program = Path(spec.origin).parent / "bin" / "itkimage2segimage"
    work = folder / "segmentation"
    series = _write_series(work / "series")
    lines: Lines = {}
    for count in SEGMENTS:
        console.print(f"segmentation: {count} segments")
        _write_labels(work, count)
        theirs = _run([program, *_dcmqi_arguments(work, series)])
        ours = _run([sys.executable, __file__, work, series, str(count)])
        told = json.loads((work / "ours.json").read_text())
        name = f"segmentation: {count} {'segment' if count == 1 else 'segments'}"
        lines[f"{name}, encode"] = lower(told["encode"], theirs["seconds"], "s", TIME_GOAL)
        lines[f"{name}, encode, peak memory"] = lower(
            told["memory_mb"], theirs["memory_mb"], "MB", MEMORY_GOAL
        )
        lines[f"{name}, gate"] = lower(told["gate"], theirs["seconds"], "s", None)
        lines[f"{name}, from files to file, with the gate"] = lower(
            ours["seconds"], theirs["seconds"], "s", None
        )
        lines[f"{name}, encode and gate, peak memory"] = lower(
            ours["memory_mb"], theirs["memory_mb"], "MB", None
        )
    return lines


def _run(command: Sequence[object]) -> Cost:
    arguments = [sys.executable, "-S", Path(__file__).parent / "cost.py", *command]
    done = subprocess.run([str(part) for part in arguments], capture_output=True, text=True, check=True)
    cost: Cost = json.loads(done.stdout)
    return cost


def _headers() -> list[Dataset]:
    """A CT series along the patient's axes, in slice order, without pixels."""
    study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    headers = []
    for index in range(SHAPE[0]):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, generate_uid(), "CT"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame_of_reference
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom", "P1", "", ""
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260102", "101112", "1", ""
        ds.ReferringPhysicianName, ds.Manufacturer, ds.SeriesNumber = "", "Nobody", 1
        ds.InstanceNumber, ds.PositionReferenceIndicator = index + 1, ""
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [0, 0, index * SPACING_MM[2]]
        ds.PixelSpacing, ds.SliceThickness = list(SPACING_MM[:2]), SPACING_MM[2]
        ds.Rows, ds.Columns = SHAPE[1:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.KVP, ds.AcquisitionNumber = 0, 1, None, 1
        headers.append(ds)
    return headers


def _write_series(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = bytes(SHAPE[1] * SHAPE[2] * 2)
    for index, ds in enumerate(_headers()):
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.PixelData = pixels
        ds.save_as(folder / f"{index:04}.dcm", enforce_file_format=True)
    return folder


def _labels(count: int) -> NDArray[np.uint8]:
    """Ellipsoids on a lattice: together a quarter of the volume, however many they are."""
    along = {1: (1, 1, 1), 20: (2, 5, 2), 100: (4, 5, 5)}[count]
    labels = np.zeros(SHAPE, np.uint8)
    for number, place in enumerate(np.ndindex(*along), 1):
        box = tuple(
            slice(length * at // of, length * (at + 1) // of)
            for length, at, of in zip(SHAPE, place, along, strict=True)
        )
        part = labels[box]
        axes = np.ogrid[tuple(slice(-1, 1, length * 1j) for length in part.shape)]
        part[sum((axis / 0.78) ** 2 for axis in axes) <= 1] = number
    return labels


def _write_labels(work: Path, count: int) -> None:
    labels = _labels(count)
    np.save(work / "labels.npy", labels)
    affine = np.diag([-SPACING_MM[1], -SPACING_MM[0], SPACING_MM[2], 1.0])
    nibabel.Nifti1Image(labels.transpose(2, 1, 0), affine).to_filename(work / "labels.nii")
    segments = [
        {
            "labelID": number,
            "SegmentLabel": f"Part {number}",
            "SegmentDescription": f"Part {number}",
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentAlgorithmName": "Phantom",
            "SegmentedPropertyCategoryCodeSequence": _TISSUE_BY_KEY,
            "SegmentedPropertyTypeCodeSequence": _TISSUE_BY_KEY,
            "recommendedDisplayRGBValue": [200, number, 30],
        }
        for number in range(1, count + 1)
    ]
    told = {
        "ContentCreatorName": "Phantom",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": [segments],
    }
    (work / "dcmqi.json").write_text(json.dumps(told))


def _dcmqi_arguments(work: Path, series: Path) -> list[object]:
    return [
        *("--inputImageList", work / "labels.nii", "--inputDICOMDirectory", series),
        *("--inputMetadata", work / "dcmqi.json", "--outputDICOM", work / "theirs.dcm"),
    ]


def _ours(work: Path, series: Path, count: int) -> None:
    """What the child process of ours does: encode, write, read back; its seconds go to `ours.json`."""
    import resource
    from datetime import UTC, datetime

    from dicomnode.imaging.findings import Findings
    from dicomnode.imaging.geometry import series_geometry
    from dicomnode.imaging.headers import read_headers
    from dicomnode.model.profile import Profile
    from dicomnode.results.gate import check_seg
    from dicomnode.results.provenance import Provenance
    from dicomnode.results.seg import encode_seg

    geometry, headers = series_geometry(read_headers(sorted(series.glob("*.dcm"))))
    findings = Findings(np.load(work / "labels.npy"), geometry)
    at = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
    provenance = Provenance("bench", "job", "sha256:ab", "Maker", "dicomnode", "1", "1", True, 9100, at)
    manifest = _manifest(count)
    started = time.perf_counter()
    encoded = encode_seg(findings, headers, manifest, provenance, Profile(omit_empty_frames=True))
    with (work / "ours.dcm").open("wb") as file:
        file.write(encoded.data)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    check_seg(encoded, findings, headers, manifest)
    told = {"encode": seconds, "gate": time.perf_counter() - started, "memory_mb": memory_mb}
    (work / "ours.json").write_text(json.dumps(told))


def _manifest(count: int):  # noqa: ANN202 - imported where it is measured
    from dicomnode.model.manifest import Manifest

    segments = [
        {
            "label": number,
            "name": f"part_{number}",
            "title": f"Part {number}",
            "category": _TISSUE,
            "type": _TISSUE,
            "color": [200, number, 30],
        }
        for number in range(1, count + 1)
    ]
    pipeline = {"name": "phantom", "version": "1", "title": "Phantom", "input": "volume", "weights": "none"}
    return Manifest.model_validate(
        {
            "pipeline": {**pipeline, "time_limit_s": 1, "memory_mb": 1},
            "algorithm": {"name": "Phantom", "family": ["123110", "DCM", "Artificial Intelligence"]},
            "segment": segments,
        }
    )


if __name__ == "__main__":
    _ours(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
