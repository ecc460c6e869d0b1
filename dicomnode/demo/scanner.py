"""The demo's scanner: the MNI ICBM152 T1 template as a sagittal MR series, new UIDs each time.

The template is an average of 152 heads on a 1 mm grid, without skull and face. It comes with the nilearn
wheel as NIfTI (RAS); here it becomes MR Image Storage (PS3.3 A.4) in the patient's coordinates (LPS).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from dicomnode.demo.errors import DemoError
from dicomnode.model.uid import IMPLEMENTATION_CLASS_UID

INTENSITY_SCALE = 16
"""The template's 8 bits fill the 12 bits that a scanner stores."""

_TEMPLATE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Template:
    """`voxels`: uint8, indexed (i, j, k); `affine` (4×4) takes (i, j, k, 1) to RAS mm, as in NIfTI."""

    voxels: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slices:
    """`frames`: uint16, indexed (slice, row, column); `affine` takes (slice, row, column, 1) to LPS mm."""

    frames: NDArray[np.uint16]
    affine: NDArray[np.float64]


def new_uid() -> str:
    """A UID of its own each time, from a random UUID (PS3.5 B.2)."""
    return str(generate_uid(prefix=None))


def scan_mni(folder: Path, now: datetime | None = None) -> list[Path]:
    """Write the template as one series into `folder`; gives its files in slice order, left to right."""
    return write_series(sagittal(mni_template()), folder, now or datetime.now().astimezone())


def mni_template() -> Template:
    """The T1 template of the nilearn wheel; raises DemoError."""
    # nilearn itself takes seconds to import, and only the file beside it is wanted.
    spec = importlib.util.find_spec("nilearn")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(root) / _TEMPLATE).is_file():
            image = nibabel.load(file)
            return Template(np.asarray(image.dataobj, dtype=np.uint8), np.asarray(image.affine, np.float64))
    raise DemoError("nilearn's MNI152 template is not there: pip install 'dicomnode[demo]'")


def sagittal(template: Template) -> Slices:
    """Cut along the first axis of a volume whose axes run to R, A and S.

    Slices go from left to right, rows from superior to inferior, columns from anterior to posterior.
    """
    if nibabel.aff2axcodes(template.affine) != ("R", "A", "S"):
        raise ValueError("the volume's axes do not run to R, A and S")
    _, nj, nk = template.voxels.shape
    # (slice, row, column, 1) → (i, j, k, 1)
    to_voxel = np.array([[1, 0, 0, 0], [0, 0, -1, nj - 1], [0, -1, 0, nk - 1], [0, 0, 0, 1]], np.float64)
    frames = template.voxels[:, ::-1, ::-1].transpose(0, 2, 1).astype(np.uint16) * INTENSITY_SCALE
    return Slices(frames.astype(np.uint16), _RAS_TO_LPS @ template.affine @ to_voxel)


def write_series(slices: Slices, folder: Path, now: datetime) -> list[Path]:
    """One MR Image Storage file a slice, Explicit VR Little Endian, named by InstanceNumber."""
    folder.mkdir(parents=True, exist_ok=True)
    series = _series_attributes(slices, now)
    return [_write_slice(series, slices, index, folder, new_uid()) for index in range(len(slices.frames))]


def _series_attributes(slices: Slices, now: datetime) -> Dataset:
    """What all slices share."""
    ds = Dataset()
    _patient_and_study(ds, now)
    _series_and_equipment(ds, now)
    _acquisition(ds)
    _plane(ds, slices.affine)
    _pixels(ds, slices.frames)
    return ds


def _patient_and_study(ds: Dataset, now: datetime) -> None:
    """Patient, General Study (PS3.3 C.7.1.1, C.7.2.1)."""
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "Demo^MNI152"
    ds.PatientID = "DEMO-MNI152"
    ds.PatientBirthDate = ds.PatientSex = ""
    ds.StudyInstanceUID = new_uid()
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = f"{now:%Y%m%d}"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = f"{now:%H%M%S}"
    ds.TimezoneOffsetFromUTC = f"{now:%z}"
    ds.StudyID = "1"
    ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.StudyDescription = "dicomnode demo"


def _series_and_equipment(ds: Dataset, now: datetime) -> None:
    """General Series, Frame of Reference, General Equipment (PS3.3 C.7.3.1, C.7.4.1, C.7.5.1)."""
    ds.Modality = "MR"
    ds.SeriesInstanceUID = new_uid()
    ds.SeriesNumber = 3
    ds.SeriesDescription = "T1 MPRAGE sag 1mm"
    ds.ProtocolName = "T1 MPRAGE"
    ds.BodyPartExamined = "BRAIN"
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = new_uid()
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer = "dicomnode"
    ds.ManufacturerModelName = "demo scanner"
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = f"{now:%Y}"
    ds.ImageComments = "MNI ICBM152 T1 template: the average of 152 heads, no patient's image"


def _acquisition(ds: Dataset) -> None:
    """MR Image (PS3.3 C.8.3.1): what a 3 T scanner states of an MPRAGE; times in ms."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.AcquisitionNumber = 1
    ds.ScanningSequence = ["GR", "IR"]
    ds.SequenceVariant = ["SK", "SP", "MP"]
    ds.ScanOptions = "PFP"
    ds.MRAcquisitionType = "3D"
    ds.SequenceName = "*tfl3d1"
    ds.MagneticFieldStrength = "3"
    ds.ImagingFrequency = "123.25"
    ds.ImagedNucleus = "1H"
    ds.RepetitionTime = "2300"
    ds.EchoTime = "2.98"
    ds.InversionTime = "900"
    ds.FlipAngle = "9"
    ds.EchoNumbers = 1
    ds.EchoTrainLength = 1
    ds.NumberOfAverages = "1"
    ds.PixelBandwidth = "240"


def _plane(ds: Dataset, affine: NDArray[np.float64]) -> None:
    """Image Plane (PS3.3 C.7.6.2), but for the position."""
    between, row_spacing, column_spacing = np.linalg.norm(affine[:3, :3], axis=0)
    ds.ImageOrientationPatient = [
        *_ds(affine[:3, 2] / column_spacing),
        *_ds(affine[:3, 1] / row_spacing),
    ]
    ds.PixelSpacing = _ds(np.array([row_spacing, column_spacing]))
    ds.SliceThickness, ds.SpacingBetweenSlices = _ds(np.array([between, between]))


def _pixels(ds: Dataset, frames: NDArray[np.uint16]) -> None:
    """Image Pixel and VOI LUT (PS3.3 C.7.6.3, C.11.2); the window spans what the brain shows."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = frames.shape[1:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    top = round(float(np.percentile(frames[frames > 0], 99.5))) if frames.any() else 4095
    ds.WindowCenter, ds.WindowWidth = _ds(np.array([top / 2, top]))


def _write_slice(series: Dataset, slices: Slices, index: int, folder: Path, uid: str) -> Path:
    path = folder / f"{index + 1:04}.dcm"
    ds = FileDataset(str(path), series, preamble=b"\0" * 128, file_meta=_file_meta(uid))
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, UID(uid)
    ds.InstanceNumber = index + 1
    position = slices.affine @ [index, 0, 0, 1]
    ds.ImagePositionPatient = _ds(position[:3])
    # The normal of this orientation points to the right, and SliceLocation grows along it.
    ds.SliceLocation = _ds(position[:1] * -1)[0]
    ds.PixelData = slices.frames[index].astype("<u2").tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path


def _file_meta(uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    return meta


def _ds(values: NDArray[np.float64]) -> list[str]:
    """Decimal strings of at most 16 characters (PS3.5 6.2); -0.0 becomes 0."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]
