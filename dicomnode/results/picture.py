"""Summary pictures as Secondary Captures (PS3.3 A.8.1)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.rendering import window_of
from dicomnode.model.manifest import Manifest
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.drawing import MarkStyle, Picture, draw
from dicomnode.results.instance import Kind, new_instance, tell_part_of_body
from dicomnode.results.part10 import finish
from dicomnode.results.planes import turned_planes
from dicomnode.results.provenance import Provenance
from dicomnode.results.summary import rows

_ROLES = {ResultRole.PICTURE: "summary", ResultRole.NOTICE: "AI did not run"}


def encode_picture(
    picture: Picture, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> EncodedResult:
    """What `draw_findings` drew."""
    ds = _capture(picture, ResultRole.PICTURE, headers, manifest, provenance)
    return finish(ds, ResultRole.PICTURE, headers[0], provenance)


def encode_notice_picture(
    picture: Picture, headers: Sequence[Dataset], manifest: Manifest | None, provenance: Provenance
) -> EncodedResult:
    """A picture of a notice, for a destination that shows pictures alone."""
    ds = _capture(picture, ResultRole.NOTICE, headers, manifest, provenance)
    # Its own names beside those of the report, which has the same role.
    ds.SOPInstanceUID = provenance.uid("instance", ResultRole.NOTICE, ResultRole.PICTURE)
    ds.SeriesInstanceUID = provenance.uid("series", ResultRole.NOTICE, ResultRole.PICTURE)
    ds.SeriesNumber = provenance.series_number(ResultRole.PICTURE)
    return finish(ds, ResultRole.NOTICE, headers[0], provenance)


def draw_findings(
    findings: Findings,
    header: Dataset,
    manifest: Manifest,
    *,
    research_only: bool,
    with_table: bool = True,
) -> Picture:
    """Three planes, the same with what was found laid over them, and the table of numbers.

    The source, of which `header` is one, says by which window. No identity is burned in; RESEARCH ONLY is.
    Raises GateFailed where `findings` have no preview.
    """
    if findings.preview is None:
        raise GateFailed("there are no planes to draw a picture of")
    marks = [(mark.name, mark.points) for mark in findings.marks]
    return draw(
        manifest.pipeline.title,
        turned_planes(findings.preview, findings.labels, findings.geometry, marks),
        list(rows(findings, manifest)) if with_table else [],
        {segment.label: segment.color for segment in manifest.segment},
        {mark.name: MarkStyle(mark.color, mark.shape == "polygon") for mark in manifest.mark},
        research_only=research_only,
        window=_window(header),
    )


def _window(header: Dataset) -> tuple[float, float] | None:
    """What the source shows as black and as white (PS3.3 C.11.2.1.2).

    That of a MONOCHROME1 image is of values that are not those of the volume, which are turned round.
    """
    window = window_of(header)
    if window is None or text_of(header, "PhotometricInterpretation") == "MONOCHROME1":
        return None
    return window.center - window.width / 2, window.center + window.width / 2


def _capture(
    picture: Picture,
    role: ResultRole,
    headers: Sequence[Dataset],
    manifest: Manifest | None,
    provenance: Provenance,
) -> Dataset:
    title = manifest.pipeline.title if manifest else "Pipeline"
    kind = Kind(role, SecondaryCaptureImageStorage, "OT", _ROLES[role])
    ds = new_instance(kind, title, manifest, provenance)
    tell_part_of_body(ds, headers[0])
    ds.ConversionType = "WSD"
    ds.PatientOrientation = None
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.BurnedInAnnotation = "NO"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    pixels = picture.tobytes()
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    return ds
