"""The content items of a report (PS3.3 C.17.3), as highdicom makes them, and the documents that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import highdicom.sr as hdsr
import numpy as np
from highdicom.sr import RelationshipTypeValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    RTStructureSetStorage,
)

from dicomnode.results import explicit
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import Reference, evidence

Concept = Any
"""A highdicom CodedConcept or a pydicom Code."""
Relation: TypeAlias = RelationshipTypeValues
CONTAINS = Relation.CONTAINS
_NO_IMAGES = frozenset(
    {
        BasicTextSRStorage,
        Comprehensive3DSRStorage,
        EncapsulatedPDFStorage,
        GrayscaleSoftcopyPresentationStateStorage,
        KeyObjectSelectionDocumentStorage,
        RTStructureSetStorage,
    }
)
"""The classes of our results that are no images."""


def container(
    name: Concept, items: Iterable[Dataset], relation: Relation | None = CONTAINS, template: str | None = None
) -> Dataset:
    """A CONTAINER; `relation` is None at the root alone, `template` is a TID of the DCMR."""
    item = _as_dataset(hdsr.ContainerContentItem(name, template_id=template, relationship_type=relation))
    item.ContentSequence = list(items)
    return item


def code(name: Concept, value: Concept, relation: Relation = CONTAINS) -> Dataset:
    """A CODE."""
    return _as_dataset(hdsr.CodeContentItem(name, value, relationship_type=relation))


def text(name: Concept, value: str, relation: Relation = CONTAINS) -> Dataset:
    """A TEXT."""
    return _as_dataset(hdsr.TextContentItem(name, value, relationship_type=relation))


def uid(name: Concept, value: str, relation: Relation = CONTAINS) -> Dataset:
    """A UIDREF."""
    return _as_dataset(hdsr.UIDRefContentItem(name, value, relationship_type=relation))


def number(name: Concept, value: float, unit: Concept) -> Dataset:
    """A NUM of seven significant digits: more than a voxel is worth, fewer than a decimal string holds."""
    item = hdsr.NumContentItem(name, float(f"{value:.7g}"), unit, relationship_type=CONTAINS)
    return _as_dataset(item)


def image_group(context: Iterable[Dataset], references: Iterable[Reference]) -> Dataset:
    """An Image Library Group (PS3.16 TID 1601): what its images have in common, then each of them."""
    group = container(codes.DCM.ImageLibraryGroup, [])
    how = explicit.text(0x0040, 0xA010, "CS", CONTAINS.value) + explicit.text(0x0040, 0xA040, "CS", "IMAGE")
    items = [explicit.item(explicit.encoded(item)) for item in context]
    items += [
        explicit.item(explicit.sequence(0x0008, 0x1199, reference.encoded()) + how)
        for reference in references
    ]
    explicit.put_items(group, "ContentSequence", b"".join(items))
    return group


def image(reference: Reference, relation: Relation = CONTAINS, name: Concept | None = None) -> Dataset:
    """An IMAGE, the whole of it or one frame (PS3.3 C.18.4)."""
    return _reference_item("IMAGE", reference.item(), relation, name)


def result(reference: Reference) -> Dataset:
    """One of our own results: an IMAGE, or a COMPOSITE where it is none (PS3.3 C.18.3)."""
    value_type = "COMPOSITE" if reference.SOPClassUID in _NO_IMAGES else "IMAGE"
    return _reference_item(value_type, reference.item(), CONTAINS, None)


def segment(reference: Reference, number: int, name: Concept) -> Dataset:
    """An IMAGE that is one segment of a Segmentation."""
    item = reference.item()
    item.ReferencedSegmentNumber = number
    return _reference_item("IMAGE", item, CONTAINS, name)


def in_image(name: Concept, shape: str, points: NDArray[np.float64], plane: Reference) -> Dataset:
    """An SCOORD selected from a plane. `points` (n, 2) are indices (row, column), whole at pixels' centres.

    A coordinate is column\\row, and (0, 0) the corner of the first pixel, not its centre (PS3.3 C.18.6.1.1).
    """
    item = _as_dataset(hdsr.ScoordContentItem(name, shape, points[:, ::-1] + 0.5, relationship_type=CONTAINS))
    item.ContentSequence = [image(plane, Relation.SELECTED_FROM)]
    return item


def in_patient(name: Concept, shape: str, points: NDArray[np.float64], frame_of_reference: str) -> Dataset:
    """An SCOORD3D. `points` (n, 3) are LPS mm (PS3.3 C.18.9)."""
    return _as_dataset(
        hdsr.Scoord3DContentItem(name, shape, points, frame_of_reference, relationship_type=CONTAINS)
    )


def device_observer(provenance: Provenance) -> list[Dataset]:
    """The node as the device that observed (PS3.16 TID 1001, 1004)."""
    attributes = hdsr.DeviceObserverIdentifyingAttributes(
        uid=provenance.device_uid,
        name=provenance.station_name or provenance.model_name,
        manufacturer_name=provenance.manufacturer,
        model_name=provenance.model_name,
        serial_number=provenance.device_serial_number or None,
    )
    context = hdsr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=attributes)
    return list(hdsr.ObservationContext(observer_device_context=context))


def english() -> Dataset:
    """The language of our own words (PS3.16 TID 1204)."""
    return code(
        codes.DCM.LanguageOfContentItemAndDescendants,
        hdsr.CodedConcept("en", "RFC5646", "English"),
        Relation.HAS_CONCEPT_MOD,
    )


def make_document(ds: Dataset, root: Dataset, references: Sequence[Reference]) -> None:
    """Make `ds` a document with the content `root` over the instances `references` (PS3.3 C.17.2, C.17.3).

    It is complete, preliminary and not verified: no person has seen it. The Key Object Selection Document
    has no such flags (C.17.6).
    """
    for element in root:
        ds[element.tag] = element
    ds.ReferencedPerformedProcedureStepSequence = []
    if references:
        ds.CurrentRequestedProcedureEvidenceSequence = evidence(references)
    if ds.Modality == "SR":
        ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
        ds.PerformedProcedureCodeSequence = []


def concept_item(concept: Concept) -> Any:
    """A concept as an item of a code sequence (PS3.3 8.8)."""
    return hdsr.CodedConcept(concept.value, concept.scheme_designator, concept.meaning)


def _reference_item(value_type: str, reference: Dataset, relation: Relation, name: Concept | None) -> Dataset:
    item = Dataset()
    item.ValueType, item.RelationshipType = value_type, relation.value
    if name is not None:
        item.ConceptNameCodeSequence = [concept_item(name)]
    item.ReferencedSOPSequence = [reference]
    return item


def _as_dataset(item: Any) -> Dataset:
    """highdicom's items refuse what is put into them unless it is theirs."""
    plain = Dataset()
    plain.update(item)
    return plain
