"""What Segmentations and Parametric Maps have in common: frames on their source's planes (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highdicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import number_of, numbers_of, text_of, value_of
from dicomnode.imaging.geometry import Geometry
from dicomnode.model.manifest import Manifest, Map
from dicomnode.model.result import ResultRole
from dicomnode.results import explicit
from dicomnode.results.codes import content_description, processing_equipment
from dicomnode.results.instance import Names, begin
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import encoded_names

_LONGEST_DS = 16
_ROLES = {
    "parametric": ResultRole.PARAMETRIC_MAP,
    "derived": ResultRole.DERIVED,
    "fractional": ResultRole.SEG,
}
_BY_FRAME = ("FrameLabel", "FrameContentSequence", "Frame Label")
_BY_SEGMENT = ("ReferencedSegmentNumber", "SegmentIdentificationSequence", "Referenced Segment Number")
_BY_POSITION = ("ImagePositionPatient", "PlanePositionSequence", "Image Position Patient")


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells one kind of multi-frame result from another; `map` is None where it is of the label map."""

    role: ResultRole
    SOPClassUID: str
    Modality: str
    ImageType: tuple[str, ...]
    ContentLabel: str
    map: Map | None = None


def new_instance(
    kind: Kind, geometry: Geometry, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> Dataset:
    """All that lies around the pixels and the per-frame groups; identity and times are put in by `finish`.

    `headers` are the source's, one a plane, in slice order. A source without a frame of reference, such as
    a projection, yields a result without one: it is tied to its source by reference alone.
    """
    ds = begin(kind.SOPClassUID, kind.Modality, _names(kind, manifest, provenance), provenance)
    ds.ImageType, ds.ContentLabel = list(kind.ImageType), kind.ContentLabel
    title = kind.map.title if kind.map else manifest.pipeline.title
    ds.ContentDescription = content_description(title, provenance)
    ds.ContentCreatorName = None
    ds.ContributingEquipmentSequence = [
        *acquisition_equipment(headers[0]),
        *processing_equipment(manifest, provenance),
    ]
    if geometry.FrameOfReferenceUID:
        ds.FrameOfReferenceUID = geometry.FrameOfReferenceUID
        ds.PositionReferenceIndicator = text_of(headers[0], "PositionReferenceIndicator")
    else:
        ds.PatientOrientation = value_of(headers[0], "PatientOrientation")
    _refer(ds, headers)
    ds.Rows, ds.Columns = geometry.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PresentationLUTShape = "IDENTITY"
    carry_loss(ds, headers)
    ds.SharedFunctionalGroupsSequence = [_shared(geometry, headers[0])]
    return ds


def index_dimensions(ds: Dataset, provenance: Provenance, *, by_segment: bool) -> None:
    """Say what the Dimension Index Values of `FrameGroups` count (PS3.3 C.7.6.17)."""
    uid = provenance.uid("dimensions", str(ds.SOPInstanceUID))
    chosen = [_BY_SEGMENT] if by_segment else []
    if "FrameOfReferenceUID" in ds:
        chosen.append(_BY_POSITION)
    ds.DimensionOrganizationSequence = [with_elements(DimensionOrganizationUID=uid)]
    ds.DimensionIndexSequence = [
        with_elements(
            DimensionOrganizationUID=uid,
            DimensionIndexPointer=Tag(pointer),
            FunctionalGroupPointer=Tag(group),
            DimensionDescriptionLabel=label,
        )
        for pointer, group, label in (chosen or [_BY_FRAME])
    ]


def decimals(header: Dataset, keyword: str, count: int | None = None) -> list[str]:
    """The source's own decimal strings, so that positions compare equal digit for digit (PS3.5 6.2).

    Those that are longer than a decimal string may be are rounded. Raises GateFailed where there are not
    `count` numbers.
    """
    numbers = numbers_of(header, keyword, count)
    if numbers is None:
        raise GateFailed(f"a source has no usable {keyword}")
    value = header[keyword].value
    texts = [str(part) for part in (value if header[keyword].VM > 1 else [value])]
    return [
        text if len(text) <= _LONGEST_DS else format_number_as_ds(number)
        for text, number in zip(texts, numbers, strict=True)
    ]


def carry_loss(ds: Dataset, headers: Sequence[Dataset]) -> None:
    """What was lost in the source is lost in what was computed from it (PS3.3 C.7.6.1.1.5)."""
    ds.LossyImageCompression = "00"
    for header in headers:
        if text_of(header, "LossyImageCompression") == "01":
            ds.LossyImageCompression = "01"
            for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
                if text_of(header, keyword):
                    setattr(ds, keyword, getattr(header, keyword))
            return


def role_of(of: Map) -> ResultRole:
    """The role of what a map becomes."""
    return _ROLES[of.use]


def series_number(provenance: Provenance, manifest: Manifest, of: Map) -> int:
    """The SeriesNumber of what a map becomes: its role's own for the first of a role, else one after all of
    them. The role of a Segmentation belongs to the label map."""
    taken, others = {"fractional"}, list[str]()
    for each in manifest.map:
        if each.use in taken:
            others.append(each.name)
        taken.add(each.use)
    if of.name not in others:
        return provenance.series_number(role_of(of))
    return provenance.series_number_base + len(ResultRole) + others.index(of.name)


def _names(kind: Kind, manifest: Manifest, provenance: Provenance) -> Names:
    title = manifest.pipeline.title
    if kind.map is None:
        return Names((kind.role,), provenance.series_number(kind.role), title, kind.role)
    number = series_number(provenance, manifest, kind.map)
    return Names((kind.role, kind.map.name), number, title, f"{kind.map.title} {kind.role}")


def _refer(ds: Dataset, headers: Sequence[Dataset]) -> None:
    """Each source instance once (PS3.3 C.12.2, C.7.6.16.2.6), whatever the number of its frames."""
    once = {text_of(header, "SOPInstanceUID"): text_of(header, "SOPClassUID") for header in headers}
    references = b"".join(explicit.item(encoded_names(kind, uid)) for uid, kind in once.items())
    series = with_elements(SeriesInstanceUID=text_of(headers[0], "SeriesInstanceUID"))
    explicit.put_items(series, "ReferencedInstanceSequence", references)
    ds.ReferencedSeriesSequence = [series]
    explicit.put_items(ds, "SourceImageSequence", references)


def _shared(geometry: Geometry, header: Dataset) -> Dataset:
    """Plane orientation and pixel measures, which all frames have in common."""
    shared = Dataset()
    if geometry.FrameOfReferenceUID:
        spacing = format_number_as_ds(round(geometry.spacing[2], 12))
        thickness = number_of(header, "SliceThickness")
        orientation = decimals(header, "ImageOrientationPatient", 6)
        shared.PlaneOrientationSequence = [with_elements(ImageOrientationPatient=orientation)]
        measures = with_elements(
            PixelSpacing=decimals(header, "PixelSpacing", 2),
            SliceThickness=format_number_as_ds(thickness) if thickness else spacing,
            SpacingBetweenSlices=spacing,
        )
        shared.PixelMeasuresSequence = [measures]
    return shared


def acquisition_equipment(header: Dataset) -> list[Any]:
    """The equipment that the source names, with no more of each name than its element may hold."""
    names = {
        "manufacturer": "Manufacturer",
        "manufacturer_model_name": "ManufacturerModelName",
        "device_serial_number": "DeviceSerialNumber",
        "software_versions": "SoftwareVersions",
    }
    told = {key: text_of(header, keyword).split("\\")[0][:64] for key, keyword in names.items()}
    if not told["manufacturer"]:
        return []
    return [
        highdicom.ContributingEquipment(
            purpose_of_reference=codes.DCM.AcquisitionEquipment,
            contribution_description="Acquisition equipment of the source image(s)",
            **{key: text for key, text in told.items() if text},
        )
    ]


def code_item(code: Any) -> Any:
    """A code of pydicom's dictionary as a Code Sequence item (PS3.3 8.8)."""
    return highdicom.sr.CodedConcept(code.value, code.scheme_designator, code.meaning)


def with_elements(**elements: object) -> Dataset:
    """A data set of these attributes, each by its keyword."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds
