"""What a derived image takes over from its source, and what its modality has to say (PS3.3 C.8)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import text_of, value_of
from dicomnode.model.manifest import Code

_TYPE_2 = ("PositionReferenceIndicator", "SliceThickness", "AcquisitionNumber")
_POSITION = "PatientPosition"
_GENERAL = (
    "ImageLaterality",
    "ProtocolName",
    "SeriesDate",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContrastBolusAgent",
    "SpacingBetweenSlices",
    "SliceLocation",
)
_CT = ("KVP", "XRayTubeCurrent", "Exposure", "ExposureTime", "GantryDetectorTilt", "ConvolutionKernel")
_MR_TYPE_2 = ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength")
_MR = (
    "ScanningSequence",
    "SequenceVariant",
    "SequenceName",
    "InversionTime",
    "FlipAngle",
    "MagneticFieldStrength",
    "ImagingFrequency",
    "NumberOfAverages",
)
_PET_TYPE_2 = (
    "CollimatorType",
    "CorrectedImage",
    "RadiopharmaceuticalInformationSequence",
    "PatientOrientationCodeSequence",
    "PatientGantryRelationshipCodeSequence",
    "AcquisitionDate",
    "AcquisitionTime",
)
_PET = (
    "SeriesDate",
    "SeriesTime",
    "CountsSource",
    "SeriesType",
    "ReprojectionMethod",
    "NumberOfRRIntervals",
    "NumberOfTimeSlots",
    "NumberOfTimeSlices",
    "NumberOfRotations",
    "RandomsCorrectionMethod",
    "AttenuationCorrectionMethod",
    "ScatterCorrectionMethod",
    "DecayCorrection",
    "DecayFactor",
    "ReconstructionMethod",
    "FrameReferenceTime",
    "ActualFrameDuration",
    "SUVType",
)
_PULSES = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}
_PET_UNITS = {
    "Bq/ml": "BQML",
    "g/ml": "GML",
    "{counts}": "CNTS",
    "{propcounts}": "PROPCNTS",
    "cm2/ml": "CM2ML",
    "%": "PCNT",
    "mg/min/ml": "MGMINML",
    "ml/min/g": "MLMING",
    "1": "NONE",
}
"""By the UCUM unit (PS3.3 C.8.9.1.1.3)."""
HOUNSFIELD = "[hnsf'U]"


@dataclass(frozen=True, slots=True)
class ImageModules:
    """One of the three single-frame IODs. `carried` are attributes that hold for the derived image too."""

    SOPClassUID: UID
    Modality: str
    carried: tuple[str, ...]
    type_2: tuple[str, ...]
    rescales: bool = True
    intercepts: bool = True

    def say_unit(self, ds: Dataset, unit: Code) -> None:
        """What the modality's own module says of the values. Raises GateFailed where it has no word."""
        if self.Modality == "CT":
            ds.RescaleType = "HU" if unit.value == HOUNSFIELD else "US"
        elif self.Modality == "PT":
            if unit.value not in _PET_UNITS:
                raise GateFailed(f"{unit.value} is no unit of a PET image")
            ds.Units = _PET_UNITS[unit.value]

    def complete(self, ds: Dataset, header: Dataset, plane: int, planes: int) -> None:
        """What the IOD requires and a multi-frame or a sparse source does not tell."""
        if self.Modality == "CT":
            ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        elif self.Modality == "MR":
            ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
            _complete_mr(ds, header)
        else:
            ds.ImageType = ["DERIVED", "PRIMARY"]
            _complete_pet(ds, plane, planes)


def modules_of(header: Dataset) -> ImageModules:
    """Those of the source's modality. Raises GateFailed where it is neither CT nor MR nor PET."""
    try:
        return _BY_SOURCE[text_of(header, "SOPClassUID")]
    except KeyError:
        raise GateFailed("images are derived from CT, MR and PET alone") from None


def _complete_mr(ds: Dataset, header: Dataset) -> None:
    if value_of(ds, "ScanningSequence") is None:
        sequences = _PULSES.get(text_of(header, "EchoPulseSequence"), ["RM"])
        inverted = ["IR"] if text_of(header, "InversionRecovery") == "YES" else []
        planar = ["EP"] if text_of(header, "EchoPlanarPulseSequence") == "YES" else []
        ds.ScanningSequence = [*sequences, *inverted, *planar]
    if value_of(ds, "SequenceVariant") is None:
        ds.SequenceVariant = "NONE"
    if "IR" not in text_of(ds, "ScanningSequence").split("\\") and "InversionTime" in ds:
        del ds.InversionTime


def _complete_pet(ds: Dataset, plane: int, planes: int) -> None:
    ds.NumberOfSlices, ds.ImageIndex = planes, plane + 1
    for keyword, value in (
        ("SeriesType", ["STATIC", "IMAGE"]),
        ("CountsSource", "EMISSION"),
        ("DecayCorrection", "NONE"),
        ("FrameReferenceTime", "0"),
    ):
        if value_of(ds, keyword) is None:
            setattr(ds, keyword, value)


_CT_IMAGE = ImageModules(
    CTImageStorage, "CT", (*_TYPE_2, _POSITION, *_GENERAL, *_CT), (*_TYPE_2, _POSITION, "KVP")
)
_MR_IMAGE = ImageModules(
    MRImageStorage,
    "MR",
    (*_TYPE_2, _POSITION, *_GENERAL, *_MR_TYPE_2, *_MR),
    (*_TYPE_2, _POSITION, *_MR_TYPE_2),
    rescales=False,
)
_PET_IMAGE = ImageModules(
    PositronEmissionTomographyImageStorage,
    "PT",
    (*_TYPE_2, *_GENERAL, *_PET_TYPE_2, *_PET),
    (*_TYPE_2, *_PET_TYPE_2),
    intercepts=False,
)
_BY_SOURCE: dict[str, ImageModules] = {
    CTImageStorage: _CT_IMAGE,
    EnhancedCTImageStorage: _CT_IMAGE,
    LegacyConvertedEnhancedCTImageStorage: _CT_IMAGE,
    MRImageStorage: _MR_IMAGE,
    EnhancedMRImageStorage: _MR_IMAGE,
    LegacyConvertedEnhancedMRImageStorage: _MR_IMAGE,
    PositronEmissionTomographyImageStorage: _PET_IMAGE,
    EnhancedPETImageStorage: _PET_IMAGE,
    LegacyConvertedEnhancedPETImageStorage: _PET_IMAGE,
}
