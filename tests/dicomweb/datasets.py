"""Small instances for the tests of DICOMweb."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

STUDY, SERIES = "1.2.3", "1.2.3.4"


def image(number: int = 1, series: str = SERIES, study: str = STUDY, **elements: object) -> Dataset:
    """Instance `number` of a series: 16 by 12 pixels of 12 bits, different in each instance."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, UID(f"{series}.{number}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Doe^Jane", "P1", "19700101", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260102", "101112", "S1", "A1"
    ds.ReferringPhysicianName, ds.StudyDescription = "Roe^Rick", "Head"
    ds.Modality, ds.SeriesNumber, ds.SeriesDescription = "CT", 1, "thin"
    ds.InstanceNumber = number
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 12, 16, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope = -1024, 1
    ds.PixelData = pixels(number).tobytes()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def pixels(number: int) -> np.ndarray:
    """The stored values of instance `number`."""
    return ((np.arange(12 * 16, dtype=np.uint16) * 21 + number * 100) % 4096).reshape(12, 16)


def volume(frames: int = 3, **elements: object) -> Dataset:
    """A multi-frame instance, frame k with the pixels of instance k."""
    ds = image(1, "1.2.3.5", **elements)
    ds.NumberOfFrames = frames
    ds.PixelData = b"".join(pixels(number).tobytes() for number in range(1, frames + 1))
    return ds


def order(**elements: str) -> Dataset:
    """An item of Request Attributes Sequence."""
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item
