"""The root of a run's results: a Comprehensive 3D SR (PS3.3 A.35.13, PS3.16 TID 1500)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import highdicom.sr as hdsr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from dicomnode.imaging.elements import text_of
from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest
from dicomnode.model.profile import Profile
from dicomnode.model.result import EncodedResult, ResultReference, ResultRole
from dicomnode.results import content
from dicomnode.results.contours import Masks
from dicomnode.results.instance import Kind, new_instance
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import (
    Reference,
    each_once,
    evidence,
    reference_to,
    source_references,
)
from dicomnode.results.sr_groups import Told, absent, evaluations, groups, unfound, unmeasured

_PROCEDURES = {
    "CT": ("25045-6", "LN", "CT unspecified body region"),
    "MR": ("25056-3", "LN", "MRI unspecified body region"),
    "PT": ("44136-0", "LN", "PET unspecified body region"),
}
"""By modality (PS3.16 CID 100)."""
_MODALITIES = {
    "CT": codes.DCM.ComputedTomography,
    "MR": codes.DCM.MagneticResonance,
    "PT": codes.DCM.PositronEmissionTomography,
}
_IMAGING_PROCEDURE = ("363679005", "SCT", "Imaging procedure")
_KIND = Kind(ResultRole.SR, Comprehensive3DSRStorage, "SR", "SR")


def encode_sr(
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    provenance: Provenance,
    profile: Profile,
    others: Sequence[EncodedResult] = (),
    predecessor: ResultReference | None = None,
) -> EncodedResult:
    """A Measurement Report of all that was found, and of all that was looked for and not found.

    `headers` are the source's, one a plane, in slice order. `others` are the run's other results: the report
    refers to each of them, and its groups to the segments of the first Segmentation among them, which is the
    label map's. `predecessor` is the report of an earlier generation, which this one takes the place of.
    """
    planes = source_references(headers, findings.geometry.frames)
    told = Told(
        findings=findings,
        manifest=manifest,
        provenance=provenance,
        planes=planes,
        seg=_label_map(others, provenance),
        viewer=profile.report == "viewer",
        masks=Masks(findings.labels),
    )
    children = [reference_to(other) for other in others]
    ds = new_instance(_KIND, manifest.pipeline.title, manifest, provenance)
    content.make_document(ds, _root(told, headers[0], children), [*planes, *children])
    if provenance.priors:
        ds.PertinentOtherEvidenceSequence = evidence(provenance.priors)
    if predecessor is not None:
        ds.PredecessorDocumentsSequence = evidence([reference_to(predecessor)])
    return finish(ds, ResultRole.SR, headers[0], provenance)


def _label_map(others: Sequence[EncodedResult], provenance: Provenance) -> Reference | None:
    uid = provenance.instance_uid(ResultRole.SEG)
    return next((reference_to(other) for other in others if other.SOPInstanceUID == uid), None)


def _root(told: Told, header: Dataset, children: Sequence[Reference]) -> Dataset:
    procedure = hdsr.CodedConcept(*_PROCEDURES.get(text_of(header, "Modality"), _IMAGING_PROCEDURE))
    measurements = list(groups(told))
    items = [
        content.english(),
        *content.device_observer(told.provenance),
        content.code(codes.DCM.ProcedureReported, procedure, content.Relation.HAS_CONCEPT_MOD),
        _image_library(told.planes, header),
        *_catalog(children),
        content.container(codes.DCM.ImagingMeasurements, measurements),
        content.container(
            hdsr.CodedConcept("C0034375", "UMLS", "Qualitative Evaluations"), _evaluations(told)
        ),
    ]
    return content.container(codes.DCM.ImagingMeasurementReport, items, relation=None, template="1500")


def _image_library(planes: Sequence[Reference], header: Dataset) -> Dataset:
    """The source instances (PS3.16 TID 1600), described once for all: they are one series on one grid."""
    context = content.Relation.HAS_ACQ_CONTEXT
    items = []
    if (modality := _MODALITIES.get(text_of(header, "Modality"))) is not None:
        items.append(content.code(codes.DCM.Modality, modality, context))
    if frame_of_reference := text_of(header, "FrameOfReferenceUID"):
        items.append(content.uid(codes.DCM.FrameOfReferenceUID, frame_of_reference, context))
    return content.container(codes.DCM.ImageLibrary, [content.image_group(items, each_once(planes))])


def _catalog(children: Sequence[Reference]) -> Iterator[Dataset]:
    """The other results of the run: TID 1500 is extensible, and has no place of its own for them."""
    if children:
        yield content.container(codes.DCM.DICOMObjectCatalog, map(content.result, children))


def _evaluations(told: Told) -> Iterator[Dataset]:
    """Whether anything was found (PS3.16 CID 6047), what was not, and what was assumed of the source."""
    manifest = told.manifest
    looked_for = len(manifest.segment) + len(manifest.mark)
    nothing = looked_for and len(absent(told)) == looked_for
    summary = (
        codes.DCM.AllAlgorithmsSucceededWithoutFindings
        if nothing
        else codes.DCM.AllAlgorithmsSucceededWithFindings
    )
    yield content.code(codes.DCM.CADProcessingAndFindingsSummary, summary)
    yield from evaluations(told)
    notes = (*told.findings.geometry.notes, *told.provenance.notes)
    for note in (*unfound(told), *unmeasured(told), *notes):
        yield content.text(codes.DCM.Comment, note)
