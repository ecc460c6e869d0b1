"""What every result begins with: its names, and who made it."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicomnode.imaging.elements import text_of
from dicomnode.model.manifest import Manifest
from dicomnode.model.result import ResultRole
from dicomnode.results.codes import processing_equipment, series_description
from dicomnode.results.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells one kind of result from another; `words` end its SeriesDescription."""

    role: ResultRole
    SOPClassUID: str
    Modality: str
    words: str


@dataclass(frozen=True, slots=True)
class Names:
    """What a series is called: its UIDs are a function of `parts`, its description ends in `words`."""

    parts: tuple[str, ...]
    SeriesNumber: int
    title: str
    words: str


def new_instance(kind: Kind, title: str, manifest: Manifest | None, provenance: Provenance) -> Dataset:
    """A result that is no image on the source's grid; identity and times are put in by `finish`."""
    names = Names((kind.role,), provenance.series_number(kind.role), title, kind.words)
    ds = begin(kind.SOPClassUID, kind.Modality, names, provenance)
    ds.ContributingEquipmentSequence = processing_equipment(manifest, provenance)
    return ds


def begin(SOPClassUID: str, Modality: str, names: Names, provenance: Provenance) -> Dataset:
    """Names and equipment (PS3.3 C.7.3.1, C.7.5.1) of the first instance of a series."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.Modality = UID(SOPClassUID), Modality
    ds.SOPInstanceUID = provenance.uid("instance", *names.parts)
    ds.SeriesInstanceUID = provenance.uid("series", *names.parts)
    ds.SeriesNumber, ds.InstanceNumber = names.SeriesNumber, 1
    ds.SeriesDescription = series_description(names.title, provenance, names.words)
    ds.Manufacturer, ds.ManufacturerModelName = provenance.manufacturer, provenance.model_name
    ds.SoftwareVersions = provenance.software_version
    if provenance.device_serial_number:
        ds.DeviceSerialNumber = provenance.device_serial_number
    return ds


def tell_part_of_body(ds: Dataset, header: Dataset) -> None:
    """The part of the body that the source names; a Laterality is asked for where none is (PS3.3 C.7.3.1)."""
    body_part, laterality = text_of(header, "BodyPartExamined"), text_of(header, "Laterality")
    if body_part:
        ds.BodyPartExamined = body_part
    if laterality or not body_part:
        ds.Laterality = laterality or None
