"""An ellipsoid at a known place in the patient, in series of any grid, kind and transfer syntax."""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gdcm
import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import compress
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    HTJ2K,
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    generate_uid,
)

INSIDE, OUTSIDE = 1200, 100
"""Modality values of the ellipsoid and of what is around it."""
LEVEL = (INSIDE + OUTSIDE) / 2
SINGLE_FRAME = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
ENHANCED = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage, "PT": EnhancedPETImageStorage}
LEGACY = LegacyConvertedEnhancedCTImageStorage


@dataclass(frozen=True)
class Ellipsoid:
    """`centre` (LPS mm), and `axes` (3×3, mm): each row a half axis; they stand at right angles."""

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]

    @property
    def volume_ml(self) -> float:
        return float(4 / 3 * np.pi * np.prod(np.linalg.norm(self.axes, axis=1)) / 1000)

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        lengths = np.linalg.norm(self.axes, axis=1)
        along = (points - self.centre) @ (self.axes / lengths[:, None] ** 2).T
        return (along**2).sum(axis=-1) <= 1


def ellipsoid_in(headers: Sequence[Dataset]) -> Ellipsoid:
    """One that fills most of the slices, off their middle, with axes askew to them."""
    corners = [pixel_places(ds)[[0, 0, -1, -1], [0, -1, 0, -1]] for ds in (headers[0], headers[-1])]
    turn = np.linalg.qr(np.array([[3.0, 1, 0.5], [-1, 2, 0.3], [0.4, -0.2, 2]]))[0]
    centre = np.concatenate(corners).mean(axis=0) + np.array([1.3, -0.7, 0.9])
    return Ellipsoid(centre, turn * np.array([[13.0], [11.0], [9.0]]))


def pixel_places(ds: Dataset) -> NDArray[np.float64]:
    """LPS mm of each pixel of a slice, (rows, columns, 3), by PS3.3 C.7.6.2.1.1 and nothing of ours."""
    cosines = np.array(ds.ImageOrientationPatient, float)
    row, column = np.indices((ds.Rows, ds.Columns)).astype(float)
    return (
        np.array(ds.ImagePositionPatient, float)
        + column[..., None] * cosines[:3] * float(ds.PixelSpacing[1])
        + row[..., None] * cosines[3:] * float(ds.PixelSpacing[0])
    )


def draw(headers: Sequence[Dataset], ellipsoid: Ellipsoid) -> NDArray[np.float64]:
    """The modality values of each slice."""
    return np.stack([np.where(ellipsoid.holds(pixel_places(ds)), INSIDE, OUTSIDE) for ds in headers]).astype(
        float
    )


def as_modality(headers: Sequence[Dataset], modality: str) -> list[Dataset]:
    """The same slices as another modality's, with a rescale: one for all in CT, one a slice in PET."""
    made = copy.deepcopy(list(headers))
    for index, ds in enumerate(made):
        ds.Modality, ds.SOPClassUID = modality, SINGLE_FRAME[modality]
        if modality != "MR":
            ds.RescaleSlope = "1" if modality == "CT" else str(0.25 + 0.125 * index)
            ds.RescaleIntercept = "-1024" if modality == "CT" else "0"
    return made


def write(
    headers: Sequence[Dataset],
    values: NDArray[np.float64],
    folder: Path,
    syntax: UID = ExplicitVRLittleEndian,
    dtype: str = "u2",
) -> list[Path]:
    """One file a slice, named against the slice order."""
    paths = []
    for index, (header, plane) in enumerate(zip(headers, values, strict=True)):
        path = folder / f"{len(headers) - index:04}.dcm"
        path.write_bytes(part10(header, _stored(header, plane, dtype)[None], syntax))
        paths.append(path)
    return paths


def write_multi_frame(
    headers: Sequence[Dataset],
    values: NDArray[np.float64],
    path: Path,
    sop_class: UID,
    syntax: UID = ExplicitVRLittleEndian,
    order: Sequence[int] | None = None,
) -> Path:
    """All slices in one instance; `order` of its frames by slice, against the slice order where not given."""
    order = order or range(len(headers) - 1, -1, -1)
    stored = np.stack([_stored(headers[index], values[index], "u2") for index in order])
    path.write_bytes(part10(multi_frame([headers[index] for index in order], sop_class), stored, syntax))
    return path


def multi_frame(headers: Sequence[Dataset], sop_class: UID) -> Dataset:
    """Single-frame headers as one enhanced header (PS3.3 A.36, A.38, A.56, A.70)."""
    ds = copy.deepcopy(headers[0])
    ds.SOPClassUID, ds.SOPInstanceUID, ds.NumberOfFrames = sop_class, generate_uid(), len(headers)
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(headers[0], "PixelSpacing", "SliceThickness")
    shared.PlaneOrientationSequence = _item(headers[0], "ImageOrientationPatient")
    ds.SharedFunctionalGroupsSequence = Items([shared])
    ds.PerFrameFunctionalGroupsSequence = Items([_groups(header, sop_class) for header in headers])
    for keyword in (
        *("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"),
        *("RescaleSlope", "RescaleIntercept", "EchoTime"),
    ):
        if keyword in ds:
            delattr(ds, keyword)
    return ds


def part10(header: Dataset, stored: NDArray[np.generic], syntax: UID) -> bytes:
    """A file; `stored` has the shape (frames, rows, columns)."""
    ds = copy.deepcopy(header)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = syntax
    if stored.dtype.kind == "f":
        return _float_part10(ds, stored)
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.BitsAllocated = ds.BitsStored = 8 * stored.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    if syntax.is_encapsulated:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if syntax in (JPEGLossless, JPEGLosslessSV1):
            return _by_gdcm(_saved(_native(ds, stored, "<")), syntax)
        if syntax == RLELossless:
            compress(_native(ds, stored, "<"), syntax, generate_instance_uid=False)
            return _saved(ds)
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate([_ENCODERS[syntax](plane) for plane in stored])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        return _saved(ds)
    return _saved(_native(ds, stored, ">" if syntax == ExplicitVRBigEndian else "<"))


def _native(ds: Dataset, stored: NDArray[np.generic], order: str) -> Dataset:
    ds.PixelData = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def _float_part10(ds: Dataset, stored: NDArray[np.generic]) -> bytes:
    keyword = "FloatPixelData" if stored.dtype.itemsize == 4 else "DoubleFloatPixelData"
    ds.BitsAllocated = 8 * stored.dtype.itemsize
    for other in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, other)
    setattr(ds, keyword, stored.astype(stored.dtype.newbyteorder("<")).tobytes())
    return _saved(ds)


def _saved(ds: Dataset) -> bytes:
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


_ENCODERS = {
    JPEG2000Lossless: lambda plane: imagecodecs.jpeg2k_encode(
        plane, codecformat="j2k", reversible=True, level=0
    ),
    HTJ2KLossless: lambda plane: imagecodecs.htj2k_encode(plane, reversible=True),
    HTJ2K: lambda plane: imagecodecs.htj2k_encode(plane, reversible=True),
    JPEGLSLossless: imagecodecs.jpegls_encode,
}


def _by_gdcm(data: bytes, syntax: UID) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "a.dcm"), Path(folder, "b.dcm")
        source.write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        kinds = {
            JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
            JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        }
        change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()


def _stored(header: Dataset, plane: NDArray[np.float64], dtype: str) -> NDArray[np.generic]:
    """The stored values that give these modality values."""
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    stored = (plane - intercept) / slope
    kind = np.dtype(dtype)
    return stored.astype(kind) if kind.kind == "f" else np.rint(stored).astype(kind)


def _item(header: Dataset, *keywords: str) -> Items:
    item = Dataset()
    for keyword in keywords:
        item[keyword] = copy.deepcopy(header[keyword])
    return Items([item])


def _groups(header: Dataset, sop_class: UID) -> Dataset:
    group, content = Dataset(), Dataset()
    content.StackID, content.FrameAcquisitionNumber = "1", 1
    if "TemporalPositionIndex" in header:
        content.TemporalPositionIndex = header.TemporalPositionIndex
    group.FrameContentSequence = Items([content])
    group.PlanePositionSequence = _item(header, "ImagePositionPatient")
    transformation = Dataset()
    transformation.RescaleSlope = header.get("RescaleSlope", "1")
    transformation.RescaleIntercept = header.get("RescaleIntercept", "0")
    transformation.RescaleType = "US"
    group.PixelValueTransformationSequence = Items([transformation])
    if sop_class == EnhancedMRImageStorage:
        echo = Dataset()
        echo.EffectiveEchoTime = float(header.EchoTime)
        group.MREchoSequence = Items([echo])
    if sop_class == LEGACY:
        unassigned = Dataset()
        unassigned.InstanceNumber = header.InstanceNumber
        group.UnassignedPerFrameConvertedAttributesSequence = Items([unassigned])
    return group
