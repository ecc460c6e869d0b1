"""The notice that a pipeline did not run, so that the absence of a result is never read as one."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import BasicTextSRStorage

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import text_of
from dicomnode.model.manifest import Manifest
from dicomnode.model.profile import Profile
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results import content
from dicomnode.results.drawing import draw_notice
from dicomnode.results.gate import check_notice, check_picture
from dicomnode.results.instance import Kind, new_instance
from dicomnode.results.part10 import finish
from dicomnode.results.picture import encode_notice_picture
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import each_once, evidence, source_reference

_KIND = Kind(ResultRole.NOTICE, BasicTextSRStorage, "SR", "AI did not run")


def encode_notice(
    headers: Sequence[Dataset],
    manifest: Manifest | None,
    provenance: Provenance,
    code: str,
    reason: str,
    profile: Profile,
    pipeline: str = "",
) -> tuple[EncodedResult, ...]:
    """A small report that says which pipeline did not run and why; by profile, a picture that says the same.

    `headers` are any of the series' instances, one at least; their identifiers are all it needs. `manifest`
    is None where the pipeline is not installed any more: `pipeline` is its name then. `code` and `reason` are
    those of the refusal or of the failure. Read back and compared; raises GateFailed.
    """
    if not headers or not text_of(headers[0], "StudyInstanceUID"):
        raise GateFailed("a notice needs a study to be in")
    formed = provenance.in_form(profile).told_apart(code, reason)
    lines = notice_lines(manifest, code, reason, pipeline)
    results = []
    if ResultRole.NOTICE in profile.takes:
        report = _report(headers, manifest, formed, lines)
        check_notice(report, lines, headers[0])
        results.append(report)
    if profile.picture_for_notice:
        drawn = draw_notice(lines, research_only=provenance.research_only)
        picture = encode_notice_picture(drawn, headers, manifest, formed)
        check_picture(picture, drawn, headers[0])
        results.append(picture)
    return tuple(results)


def notice_lines(manifest: Manifest | None, code: str, reason: str, pipeline: str) -> tuple[str, str, str]:
    """Three sentences, each of which can stand alone: viewers run them together."""
    name = f"{manifest.pipeline.title} {manifest.pipeline.version}" if manifest else pipeline or "a pipeline"
    return (
        f"AI did not run: {name} gave no result for this series.",
        f"Reason: {reason.rstrip('.')} ({code}).",
        "That there is no result says nothing about what the images show.",
    )


def _report(
    headers: Sequence[Dataset], manifest: Manifest | None, provenance: Provenance, lines: Sequence[str]
) -> EncodedResult:
    title = manifest.pipeline.title if manifest else "Pipeline"
    ds = new_instance(_KIND, title, manifest, provenance)
    root = content.container(
        codes.DCM.CADProcessingAndFindingsSummary,
        [
            content.english(),
            *content.device_observer(provenance),
            content.code(
                codes.DCM.CADProcessingAndFindingsSummary,
                codes.DCM.NoAlgorithmsSucceededWithoutFindings,
            ),
            *(content.text(codes.DCM.Comment, line) for line in lines),
        ],
        relation=None,
    )
    sources = each_once(source_reference(header) for header in headers if text_of(header, "SOPInstanceUID"))
    content.make_document(ds, root, [])
    if sources:
        ds.PertinentOtherEvidenceSequence = evidence(sources)
    return finish(ds, ResultRole.NOTICE, headers[0], provenance)
