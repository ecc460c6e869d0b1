"""The images that matter, as a Key Object Selection (PS3.3 A.35.4, C.17.6, PS3.16 TID 2010)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results import content
from dicomnode.results.contours import Masks
from dicomnode.results.instance import Kind, new_instance
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import Reference, source_references

KINDS_OF_SELECTION = {
    role: Kind(role, KeyObjectSelectionDocumentStorage, "KO", words)
    for role, words in ((ResultRole.KEY_IMAGES, "key images"), (ResultRole.WITHDRAWAL, "withdrawal"))
}


def encode_key_images(
    findings: Findings, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> EncodedResult | None:
    """The planes that `key_planes` names, in slice order; None where there are none."""
    planes = key_planes(findings, manifest)
    if not planes:
        return None
    sources = source_references(headers, findings.geometry.frames)
    chosen = [sources[plane] for plane in planes]
    words = f"Images with most of each segment, and with marks: {manifest.pipeline.title}."
    ds = new_instance(
        KINDS_OF_SELECTION[ResultRole.KEY_IMAGES], manifest.pipeline.title, manifest, provenance
    )
    items = [content.image(image) for image in chosen]
    make_selection(ds, codes.DCM.OfInterest, words, items, chosen, provenance)
    return finish(ds, ResultRole.KEY_IMAGES, headers[0], provenance)


def key_planes(findings: Findings, manifest: Manifest) -> list[int]:
    """The indices of the planes with most of each segment, and of those next to each point of a mark."""
    masks = Masks(findings.labels)
    fullest = (masks.fullest_plane(segment.label) for segment in manifest.segment)
    planes = {plane for plane in fullest if plane is not None}
    for mark in findings.marks:
        planes.update(int(plane) for plane in np.rint(mark.points[:, 0]))
    return sorted(planes)


def make_selection(
    ds: Dataset,
    title: content.Concept,
    words: str,
    items: Sequence[Dataset],
    references: Sequence[Reference],
    provenance: Provenance,
) -> None:
    """Make `ds` a selection of `items` with this document title and description."""
    root = content.container(
        title,
        [
            content.english(),
            *content.device_observer(provenance),
            content.text(codes.DCM.KeyObjectDescription, words),
            *items,
        ],
        relation=None,
        template="2010",
    )
    content.make_document(ds, root, references)
