"""A probability map as a FRACTIONAL Segmentation (PS3.3 A.51, C.8.20.2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicomnode.errors import GateFailed
from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest, Map, Segment
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.frame_groups import FrameGroups, in_place, pixel_element
from dicomnode.results.multiframe import Kind, index_dimensions
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance
from dicomnode.results.seg import SEGMENTED, segmentation

MAXIMUM = 255
"""The stored value that stands for a probability of 1."""


def encode_fractional(
    findings: Findings, of: Map, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> EncodedResult:
    """The probability of the map's segment, 0 to 1 in steps of 1/255, with a frame for each plane.

    The Segmentation has this segment alone, with the tracking identifiers that it has in the label map's.
    Raises GateFailed where the map holds something other than probabilities.
    """
    kind = Kind(ResultRole.SEG, SegmentationStorage, "SEG", ("DERIVED", "PRIMARY"), "SEGMENTATION", map=of)
    ds = segmentation(kind, findings, headers, manifest, provenance, [_segment(of, manifest)])
    ds.SegmentationType, ds.SegmentationFractionalType = "FRACTIONAL", "PROBABILITY"
    ds.SegmentsOverlap, ds.MaximumFractionalValue = "NO", MAXIMUM
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.NumberOfFrames = len(headers)
    index_dimensions(ds, provenance, by_segment=True)
    frames = [(plane, 1) for plane in range(len(headers))]
    groups = FrameGroups(findings.geometry, headers, SEGMENTED).encoded(frames)
    pixels = in_place(_stored(findings.maps[of.name]))
    return finish(ds, ResultRole.SEG, headers[0], provenance, (groups, *pixel_element(0x0010, "OB", pixels)))


def _segment(of: Map, manifest: Manifest) -> Segment:
    return next(segment for segment in manifest.segment if segment.name == of.segment)


def _stored(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    stored = np.empty(probabilities.shape, np.uint8)
    for plane, values in enumerate(probabilities):
        if not (values >= 0).all() or not (values <= 1).all():
            raise GateFailed("a probability is not from 0 to 1")
        stored[plane] = np.rint(values * MAXIMUM)
    return stored
