"""Outlines on the source images: a Grayscale Softcopy Presentation State (PS3.3 A.33.1, C.10.5, C.10.7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.color import CIELabColor
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicomnode.imaging.elements import number_of, numbers_of, text_of
from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest, Mark, Segment
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.codes import content_description
from dicomnode.results.contours import MOST_POINTS, Masks, Ring, closed
from dicomnode.results.instance import Kind, new_instance, tell_part_of_body
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import Reference, merged, source_references

_KIND = Kind(ResultRole.OUTLINES, GrayscaleSoftcopyPresentationStateStorage, "PR", "outlines")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a layer in a plane, shape (points, 2): indices (row, column), whole at pixels' centres."""

    plane: int
    layer: str
    points: Ring


def encode_outlines(
    findings: Findings, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> EncodedResult | None:
    """The outline of each segment and each mark in each plane, a coloured layer for each name.

    None where nothing was found, for then there is nothing to draw.
    """
    lines = list(outlines(findings, manifest))
    if not lines:
        return None
    sources = source_references(headers, findings.geometry.frames)
    ds = new_instance(_KIND, manifest.pipeline.title, manifest, provenance)
    ds.ContentLabel = "OUTLINES"
    ds.ContentDescription = content_description(manifest.pipeline.title, provenance)
    ds.ContentCreatorName = None
    tell_part_of_body(ds, headers[0])
    drawn = sorted({line.plane for line in lines})
    ds.ReferencedSeriesSequence = [_series([sources[plane] for plane in drawn])]
    ds.DisplayedAreaSelectionSequence = [_displayed_area(headers[0])]
    ds.GraphicAnnotationSequence = list(_annotations(lines, sources))
    named = {line.layer for line in lines}
    declared: tuple[Segment | Mark, ...] = (*manifest.segment, *manifest.mark)
    things = [thing for thing in declared if layer_of(thing) in named]
    ds.GraphicLayerSequence = [_layer(order, thing) for order, thing in enumerate(things, 1)]
    _show_as_the_source_does(ds, [headers[plane] for plane in drawn], sources, drawn)
    return finish(ds, ResultRole.OUTLINES, headers[0], provenance)


def outlines(findings: Findings, manifest: Manifest) -> Iterator[Line]:
    """Every line that is drawn. A mark that crosses planes is drawn point by point, each in the nearest."""
    masks = Masks(findings.labels)
    for segment in manifest.segment:
        for region in masks.regions(segment.label):
            for ring in (region.outer, *region.holes):
                for part in _parts(closed(ring)):
                    yield Line(region.plane, layer_of(segment), part)
    marks = {mark.name: mark for mark in manifest.mark}
    for found in findings.marks:
        layer = layer_of(marks[found.name])
        planes = np.rint(found.points[:, 0]).astype(int)
        if (planes == planes[0]).all():
            points = found.points[:, 1:]
            closing = marks[found.name].shape == "polygon"
            yield Line(int(planes[0]), layer, closed(points) if closing else points)
        else:
            for plane, point in zip(planes, found.points, strict=True):
                yield Line(int(plane), layer, point[None, 1:])


def layer_of(thing: Segment | Mark) -> str:
    """The name of its Graphic Layer: a Code String of at most 16 characters (PS3.5 6.2)."""
    kind = "S" if isinstance(thing, Segment) else "M"
    return f"{kind} {thing.name.upper().replace('_', ' ')}"[:16].strip()


def _parts(points: Ring) -> Iterator[NDArray[np.float64]]:
    """Lines of no more points than fit, each of which begins where the one before ends."""
    for start in range(0, max(len(points) - 1, 1), MOST_POINTS - 1):
        yield points[start : start + MOST_POINTS]


def _annotations(lines: Sequence[Line], sources: Sequence[Reference]) -> Iterator[Dataset]:
    together: dict[tuple[str, int], list[Line]] = defaultdict(list)
    for line in lines:
        together[line.layer, line.plane].append(line)
    for (layer, plane), parts in together.items():
        ds = Dataset()
        ds.ReferencedImageSequence = [sources[plane].item()]
        ds.GraphicLayer = layer
        ds.GraphicObjectSequence = [_graphic(part.points) for part in parts]
        yield ds


def _graphic(points: Ring) -> Dataset:
    """In pixels, (0, 0) at the corner of the first (PS3.3 C.10.5.1.2)."""
    ds = Dataset()
    ds.GraphicAnnotationUnits, ds.GraphicDimensions = "PIXEL", 2
    ds.NumberOfGraphicPoints = len(points)
    ds.GraphicData = [float(value) for value in np.float32(points[:, ::-1] + 0.5).ravel()]
    ds.GraphicType = "POLYLINE" if len(points) > 1 else "POINT"
    if len(points) > 2 and (points[0] == points[-1]).all():
        ds.GraphicFilled = "N"
    return ds


def _layer(order: int, thing: Segment | Mark) -> Dataset:
    ds = Dataset()
    ds.GraphicLayer, ds.GraphicLayerOrder = layer_of(thing), order
    ds.GraphicLayerRecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*thing.color).value)
    ds.GraphicLayerDescription = thing.title
    return ds


def _series(images: Sequence[Reference]) -> Dataset:
    ds = Dataset()
    ds.SeriesInstanceUID = images[0].SeriesInstanceUID
    ds.ReferencedImageSequence = merged(images)
    return ds


def _displayed_area(header: Dataset) -> Dataset:
    """The whole of each image (PS3.3 C.10.4)."""
    ds = Dataset()
    ds.DisplayedAreaTopLeftHandCorner = [1, 1]
    ds.DisplayedAreaBottomRightHandCorner = [int(header.Columns), int(header.Rows)]
    ds.PresentationSizeMode = "SCALE TO FIT"
    spacing = numbers_of(header, "PixelSpacing", 2)
    if spacing is not None:
        ds.PresentationPixelSpacing = [str(part) for part in header["PixelSpacing"].value]
    else:
        ds.PresentationPixelAspectRatio = [1, 1]
    return ds


def _show_as_the_source_does(
    ds: Dataset, headers: Sequence[Dataset], sources: Sequence[Reference], drawn: Sequence[int]
) -> None:
    """The rescale and the window of the images themselves (PS3.3 C.11.1, C.11.8), where all have the same."""
    rescale = {
        (number_of(header, "RescaleSlope"), number_of(header, "RescaleIntercept")) for header in headers
    }
    if len(rescale) == 1 and None not in next(iter(rescale)):
        ds.RescaleSlope, ds.RescaleIntercept = headers[0].RescaleSlope, headers[0].RescaleIntercept
        ds.RescaleType = text_of(headers[0], "RescaleType") or "US"
    windows: dict[tuple[float, float], list[Reference]] = defaultdict(list)
    for header, plane in zip(headers, drawn, strict=True):
        centre, width = number_of(header, "WindowCenter"), number_of(header, "WindowWidth")
        if centre is not None and width is not None and width >= 1:
            windows[centre, width].append(sources[plane])
    if windows:
        ds.SoftcopyVOILUTSequence = [_window(*window, images) for window, images in windows.items()]
    inverse = text_of(headers[0], "PhotometricInterpretation") == "MONOCHROME1"
    ds.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"


def _window(centre: float, width: float, images: Sequence[Reference]) -> Dataset:
    ds = Dataset()
    ds.ReferencedImageSequence = merged(images)
    ds.WindowCenter, ds.WindowWidth = f"{centre:.10g}", f"{width:.10g}"
    return ds
