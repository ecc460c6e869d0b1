"""The series that the scanner sends: its files, and what a C-STORE needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from dicomnode.demo.errors import DemoError
from dicomnode.model.result import OutgoingInstance

_WANTED = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
]


@dataclass(frozen=True, slots=True)
class Series:
    """One series on disk."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SeriesDescription: str
    instances: tuple[OutgoingInstance, ...]


def find_series(folder: Path) -> Series:
    """The one series whose files lie in `folder` or below; raises DemoError where it is not one."""
    if not folder.is_dir():
        raise DemoError(f"{folder} is no folder")
    files = [found for path in sorted(folder.rglob("*")) if path.is_file() and (found := _header(path))]
    if not files:
        raise DemoError(f"{folder} holds no DICOM file")
    uids = {str(file.SeriesInstanceUID) for file in files}
    if len(uids) > 1:
        listed = {f"{file.get('Modality', '')} {file.get('SeriesDescription', '')}" for file in files}
        raise DemoError(
            f"{folder} holds {len(uids)} series, and the demo takes one: " + "; ".join(sorted(listed))
        )
    first = files[0]
    return Series(
        str(first.StudyInstanceUID),
        str(first.SeriesInstanceUID),
        str(first.get("SeriesDescription", "")),
        tuple(_outgoing(file) for file in files),
    )


def find_instances(folder: Path, uids: frozenset[str]) -> dict[str, Path]:
    """Where the instances of these SOP Instance UIDs lie in `folder` or below."""
    found = ((path, _header(path)) for path in folder.rglob("*") if path.is_file())
    return {str(ds.SOPInstanceUID): path for path, ds in found if ds and ds.SOPInstanceUID in uids}


def read_instances(folder: Path) -> list[tuple[str, OutgoingInstance]]:
    """Each instance in `folder` or below, with the Study Instance UID that it has."""
    found = (_header(path) for path in sorted(folder.rglob("*")) if path.is_file())
    return [(str(ds.StudyInstanceUID), _outgoing(ds)) for ds in found if ds]


def _header(path: Path) -> FileDataset | None:
    """The identifying attributes of an instance; None where the file is none (a DICOMDIR is none)."""
    try:
        ds = pydicom.dcmread(path, specific_tags=list(_WANTED), stop_before_pixels=True)
    except (InvalidDicomError, OSError):
        return None
    return ds if "SOPInstanceUID" in ds and "SeriesInstanceUID" in ds else None


def _outgoing(ds: FileDataset) -> OutgoingInstance:
    return OutgoingInstance(
        str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ds.file_meta.TransferSyntaxUID), str(ds.filename)
    )
