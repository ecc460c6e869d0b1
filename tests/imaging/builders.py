"""Series that no scanner made: full MR Image Storage headers on any grid."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

AXIAL = ((1, 0, 0), (0, 1, 0))
SAGITTAL = ((0, 1, 0), (0, 0, -1))
CORONAL = ((1, 0, 0), (0, 0, -1))
OBLIQUE = ((0.9659258262890683, 0.2588190451025207, 0.0), (-0.2241438680420134, 0.8365163037378079, -0.5))
ORIENTATIONS = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "oblique": OBLIQUE}


def mr_headers(
    orientation: Sequence[Sequence[float]] = AXIAL,
    shape: tuple[int, int, int] = (5, 12, 10),
    spacing: tuple[float, float, float] = (0.8, 1.1, 2.5),
    origin: Sequence[float] = (-31.25, 12.5, 40.75),
    slant: tuple[float, float] = (0.0, 0.0),
) -> list[Dataset]:
    """Headers in slice order; `spacing` is (row, column, slice) in mm, `origin` of the first, LPS mm.

    `slant`: how many mm each slice lies further down its rows and along its columns than the one before.
    """
    along_row, along_column = np.array(orientation, float)
    normal = np.cross(along_row, along_column)
    series = _series(along_row, along_column, shape, spacing)
    step = normal * spacing[2] + along_column * slant[0] + along_row * slant[1]
    headers = []
    for index in range(shape[0]):
        ds = copy.deepcopy(series)
        ds.SOPInstanceUID = generate_uid()
        # Scanners do not number along the normal; whoever trusts this is found out.
        ds.InstanceNumber = shape[0] - index
        ds.ImagePositionPatient = decimals(np.array(origin, float) + step * index)
        headers.append(ds)
    return headers


def write_series(
    headers: Sequence[Dataset], frames: NDArray[np.uint16] | NDArray[np.int16], folder: Path
) -> list[Path]:
    """One Explicit VR Little Endian file a slice, named against the slice order."""
    paths = []
    for index, (header, frame) in enumerate(zip(headers, frames, strict=True)):
        ds = copy.deepcopy(header)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.PixelRepresentation = int(frame.dtype.kind == "i")
        ds.PixelData = frame.astype(frame.dtype.newbyteorder("<")).tobytes()
        path = folder / f"{len(headers) - index:04}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def decimals(values: NDArray[np.float64]) -> list[str]:
    """Decimal strings of at most 16 characters (PS3.5 6.2)."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _series(
    along_row: NDArray[np.float64],
    along_column: NDArray[np.float64],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = UID(MRImageStorage)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20260102"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "101112"
    ds.AccessionNumber, ds.StudyID = "A1", "1"
    ds.Modality, ds.Manufacturer = "MR", "Nobody"
    ds.ManufacturerModelName, ds.DeviceSerialNumber, ds.SoftwareVersions = "None", "1", "1"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription, ds.SeriesDescription = "Head", "T1"
    ds.PatientName, ds.PatientID = "Müller^Jörg", "P1"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19700102", "M", "056Y"
    ds.BodyPartExamined = "BRAIN"
    ds.ScanningSequence, ds.SequenceVariant = "GR", "SP"
    ds.ScanOptions, ds.MRAcquisitionType = "", "3D"
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength, ds.InversionTime = "2300", "2.98", 1, "900"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = generate_uid(), ""
    ds.SeriesNumber = 3
    ds.SliceThickness = decimals(np.array(spacing))[2]
    ds.ImageOrientationPatient = decimals(np.concatenate([along_row, along_column]))
    ds.PixelSpacing = decimals(np.array(spacing))[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = shape[1:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    return ds
