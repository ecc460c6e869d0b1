"""Small MR series that are right in every attribute, with a bright box that is not symmetric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SHAPE = (12, 40, 36)
SPACING = (1.5, 1.0, 2.0)
"""Row spacing, column spacing, slice spacing, in mm."""


def small_series(slices: int = SHAPE[0], **attributes: object) -> list[Dataset]:
    """An axial series of slices of 40×36; `attributes` replace what each data set says."""
    uids = {
        "StudyInstanceUID": generate_uid(prefix=None),
        "SeriesInstanceUID": generate_uid(prefix=None),
        "FrameOfReferenceUID": generate_uid(prefix=None),
    }
    volume = np.full((slices, *SHAPE[1:]), 100, np.int16)
    volume[2:7, 3:12, 5:11] = 900
    made = [_slice(number, plane) for number, plane in enumerate(volume)]
    for ds in made:
        for keyword, value in {**uids, **attributes}.items():
            setattr(ds, keyword, value)
    return made


def write_series(folder: Path, series: list[Dataset]) -> list[Path]:
    """Write each instance to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, ds in enumerate(series):
        path = folder / f"{number:04d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _slice(number: int, plane: np.ndarray) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = MRImageStorage
    ds.SOPInstanceUID = generate_uid(prefix=None)
    ds.Modality = "MR"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "NORM"]
    ds.SeriesDescription = "T1 MPRAGE"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20260110"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "101500"
    ds.PatientName, ds.PatientID = "Doe^Jane", "P1"
    ds.PatientBirthDate, ds.PatientSex = "19700101", "F"
    ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName = "A1", "1", ""
    ds.Manufacturer, ds.PositionReferenceIndicator = "Scanner", ""
    ds.SeriesNumber, ds.InstanceNumber = 2, number + 1
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "GR", "SP", "", "3D"
    ds.EchoTime, ds.RepetitionTime, ds.FlipAngle, ds.EchoTrainLength = 3.0, 1900.0, 9.0, 1
    ds.SliceThickness, ds.PixelSpacing = SPACING[2], list(SPACING[:2])
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [-8.0, -15.0, number * SPACING[2]]
    ds.Rows, ds.Columns = plane.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = plane.astype("<u2").tobytes()
    return ds
