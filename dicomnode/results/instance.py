"""What every result that is no image of the source's grid begins with: its names, and who made it."""

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


def new_instance(kind: Kind, title: str, manifest: Manifest | None, provenance: Provenance) -> Dataset:
    """Names and equipment (PS3.3 C.7.3.1, C.7.5.1); identity and times are put in by `finish`."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.Modality = UID(kind.SOPClassUID), kind.Modality
    ds.SOPInstanceUID = provenance.instance_uid(kind.role)
    ds.SeriesInstanceUID = provenance.series_uid(kind.role)
    ds.SeriesNumber, ds.InstanceNumber = provenance.series_number(kind.role), 1
    ds.SeriesDescription = series_description(title, provenance, kind.words)
    ds.Manufacturer, ds.ManufacturerModelName = provenance.manufacturer, provenance.model_name
    ds.SoftwareVersions = provenance.software_version
    if provenance.device_serial_number:
        ds.DeviceSerialNumber = provenance.device_serial_number
    ds.ContributingEquipmentSequence = processing_equipment(manifest, provenance)
    return ds


def tell_part_of_body(ds: Dataset, header: Dataset) -> None:
    """The part of the body that the source names; a Laterality is asked for where none is (PS3.3 C.7.3.1)."""
    body_part, laterality = text_of(header, "BodyPartExamined"), text_of(header, "Laterality")
    if body_part:
        ds.BodyPartExamined = body_part
    if laterality or not body_part:
        ds.Laterality = laterality or None
