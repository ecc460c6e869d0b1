"""Findings in, checked DICOM results out."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest
from dicomnode.model.result import EncodedResult
from dicomnode.results.gate import check_findings, check_seg, check_sr
from dicomnode.results.provenance import Provenance
from dicomnode.results.seg import encode_seg
from dicomnode.results.sr import encode_sr


def encode_results(
    findings: Findings, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> tuple[EncodedResult, ...]:
    """The Segmentation and the report on it, in this order, each read back and compared.

    `headers` are the source's in slice order, as `series_geometry` gives them. Raises GateFailed.
    """
    check_findings(findings, headers, manifest)
    seg = encode_seg(findings, headers, manifest, provenance)
    check_seg(seg, findings, headers, manifest)
    sr = encode_sr(findings, headers, manifest, provenance, seg)
    check_sr(sr, seg, findings, headers, manifest)
    return seg, sr
