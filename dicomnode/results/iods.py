"""Which information objects results are (PS3.3 A): what is told of them before any is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    MRImageStorage,
    ParametricMapStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicomnode.model.manifest import Manifest
from dicomnode.model.profile import Profile
from dicomnode.model.result import ResultRole
from dicomnode.results.seg import LABEL_MAP_SEGMENTATION_STORAGE


@dataclass(frozen=True, slots=True)
class IOD:
    """One kind of instance: its SOP class, and the transfer syntaxes that its bytes can be in."""

    name: str
    clause: str
    SOPClassUID: str
    Modality: str
    TransferSyntaxUIDs: tuple[str, ...] = (ExplicitVRLittleEndian,)


BINARY = IOD("Segmentation, BINARY", "A.51", SegmentationStorage, "SEG")
FRACTIONAL = IOD("Segmentation, FRACTIONAL", "A.51", SegmentationStorage, "SEG")
LABELMAP = IOD(
    "Label Map Segmentation",
    "A.51",
    LABEL_MAP_SEGMENTATION_STORAGE,
    "SEG",
    (RLELossless, ExplicitVRLittleEndian),
)
PICTURE = IOD("Secondary Capture Image", "A.8.1", SecondaryCaptureImageStorage, "OT")
_SELECTION = IOD("Key Object Selection Document", "A.35.4", KeyObjectSelectionDocumentStorage, "KO")
_PRESENTATION = GrayscaleSoftcopyPresentationStateStorage

IODS: Mapping[ResultRole, tuple[IOD, ...]] = MappingProxyType(
    {
        ResultRole.SEG: (BINARY, LABELMAP, FRACTIONAL),
        ResultRole.SR: (IOD("Comprehensive 3D SR", "A.35.13", Comprehensive3DSRStorage, "SR"),),
        ResultRole.PARAMETRIC_MAP: (IOD("Parametric Map", "A.75", ParametricMapStorage, "OT"),),
        ResultRole.KEY_IMAGES: (_SELECTION,),
        ResultRole.OUTLINES: (IOD("Grayscale Softcopy Presentation State", "A.33.1", _PRESENTATION, "PR"),),
        ResultRole.PICTURE: (PICTURE,),
        ResultRole.DERIVED: (
            IOD("CT Image", "A.3", CTImageStorage, "CT"),
            IOD("MR Image", "A.4", MRImageStorage, "MR"),
            IOD("Positron Emission Tomography Image", "A.21", PositronEmissionTomographyImageStorage, "PT"),
        ),
        # Its contour data is longer than an explicit length of 16 bits can count (PS3.5 7.1.2).
        ResultRole.RTSTRUCT: (
            IOD("RT Structure Set", "A.19.3", RTStructureSetStorage, "RTSTRUCT", (ImplicitVRLittleEndian,)),
        ),
        ResultRole.REPORT: (IOD("Encapsulated PDF", "A.45.1", EncapsulatedPDFStorage, "DOC"),),
        ResultRole.NOTICE: (IOD("Basic Text SR", "A.35.1", BasicTextSRStorage, "SR"), PICTURE),
        ResultRole.WITHDRAWAL: (_SELECTION,),
    }
)
"""What the instances of a role can be."""

TEMPLATES: Mapping[str, str] = MappingProxyType(
    {
        "1500": "Measurement Report: the report of a run",
        "1410": "Planar ROI Measurements and Qualitative Evaluations: a mark, or a region in one image",
        "1411": "Volumetric ROI Measurements and Qualitative Evaluations: a segment",
        "1501": "Measurement and Qualitative Evaluation Group: what has no region",
        "2010": "Key Object Selection: key images, and the withdrawal of earlier results",
    }
)
"""The templates that instances name (PS3.16 A), by identifier."""


def iods_of(manifest: Manifest, profile: Profile) -> Iterator[tuple[ResultRole, IOD]]:
    """What the results of that pipeline can be, in the form of that profile; by role."""
    outputs = [role for role in manifest.pipeline.outputs if role in profile.takes]
    for role in outputs:
        found = _segmentations(manifest, profile) if role is ResultRole.SEG else IODS[role]
        yield from ((role, each) for each in found)
    replaced = ResultRole.SEG in manifest.pipeline.outputs and profile.picture_for_seg
    if replaced and ResultRole.PICTURE not in outputs:
        yield ResultRole.PICTURE, PICTURE


def iods_of_every_pipeline(profile: Profile) -> Iterator[tuple[ResultRole, IOD]]:
    """What comes in the place of results, or withdraws earlier ones."""
    report, picture = IODS[ResultRole.NOTICE]
    if ResultRole.NOTICE in profile.takes:
        yield ResultRole.NOTICE, report
    if profile.picture_for_notice:
        yield ResultRole.NOTICE, picture
    if ResultRole.WITHDRAWAL in profile.takes:
        yield from ((ResultRole.WITHDRAWAL, each) for each in IODS[ResultRole.WITHDRAWAL])


def _segmentations(manifest: Manifest, profile: Profile) -> list[IOD]:
    found = [LABELMAP if profile.segmentation == "LABELMAP" else BINARY] if manifest.segment else []
    return [*found, *([FRACTIONAL] if any(each.use == "fractional" for each in manifest.map) else [])]
