"""The contours and outlines of encoded results against the label map and the marks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import numbers_of, text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.manifest import Manifest
from dicomnode.results.presentation import layer_of

_ON_PLANE = 0.06
"""How far from its plane a contour may lie, in slices: what `series_geometry` lets through of the source."""
_POINT = 0.01
"""How far a point of a mark may be from where it was found, in pixels."""

_Lines = dict[int, list[NDArray[np.float64]]]
"""Lines by plane, each of shape (points, 2): indices (row, column)."""


def compare_rtstruct(ds: Dataset, findings: Findings, headers: Sequence[Dataset], manifest: Manifest) -> None:
    """Raises GateFailed unless the pixels inside the contours of each ROI are those of its segment's mask."""
    try:
        if len(ds.ROIContourSequence) != len(manifest.segment):
            raise GateFailed("the RTSTRUCT has other ROIs than the manifest has segments")
        frames_of_reference = {text_of(ds.ReferencedFrameOfReferenceSequence[0], "FrameOfReferenceUID")}
        frames_of_reference |= {
            text_of(roi, "ReferencedFrameOfReferenceUID") for roi in ds.StructureSetROISequence
        }
        if frames_of_reference != {text_of(headers[0], "FrameOfReferenceUID")}:
            raise GateFailed("the RTSTRUCT is in another frame of reference than the source")
        planes = _planes(findings.geometry)
        items = zip(manifest.segment, ds.StructureSetROISequence, ds.ROIContourSequence, strict=True)
        for segment, roi, contours in items:
            if (str(roi.ROIName), roi.ROINumber) != (segment.title, contours.ReferencedROINumber):
                raise GateFailed(f"an ROI of the RTSTRUCT is not {segment.name}")
            lines: _Lines = defaultdict(list)
            for contour in contours.get("ContourSequence", []):
                plane, points = _contour(contour, planes, findings.geometry)
                lines[plane].append(np.concatenate([points, points[:1]]))
            _compare_mask("RTSTRUCT", segment.name, lines, findings.labels == segment.label)
    except UNREADABLE as error:
        raise GateFailed(f"the RTSTRUCT cannot be read back ({type(error).__name__})") from error


def compare_outlines(ds: Dataset, findings: Findings, manifest: Manifest) -> None:
    """Raises GateFailed unless each layer's lines enclose its segment's pixels, and each mark is drawn."""
    try:
        layers: dict[str, _Lines] = defaultdict(lambda: defaultdict(list))
        planes = _planes(findings.geometry)
        for annotation in ds.GraphicAnnotationSequence:
            plane = planes[_frame_named(annotation.ReferencedImageSequence[0])]
            for graphic in annotation.GraphicObjectSequence:
                points = np.reshape(np.array(numbers_of(graphic, "GraphicData")), (-1, 2))
                layers[text_of(annotation, "GraphicLayer")][plane].append(points[:, ::-1] - 0.5)
        if set(layers) != {text_of(layer, "GraphicLayer") for layer in ds.GraphicLayerSequence}:
            raise GateFailed("the PR draws on other layers than it has")
        for segment in manifest.segment:
            _compare_mask("PR", segment.name, layers[layer_of(segment)], findings.labels == segment.label)
        for mark in manifest.mark:
            drawn = [point for lines in layers[layer_of(mark)].values() for line in lines for point in line]
            found = [each.points[:, 1:] for each in findings.marks if each.name == mark.name]
            _compare_marks(mark.name, drawn, np.concatenate(found) if found else np.empty((0, 2)))
    except UNREADABLE as error:
        raise GateFailed(f"the PR cannot be read back ({type(error).__name__})") from error


def inside(lines: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres an odd number of lines lies left of; `lines` are closed together."""
    crossings = np.zeros((shape[0], shape[1] + 1), np.int64)
    for line in lines:
        rows, columns = _crossings(line)
        on = (rows >= 0) & (rows < shape[0])
        np.add.at(crossings, (rows[on], np.clip(np.ceil(columns[on]), 0, shape[1]).astype(int)), 1)
    within: NDArray[np.bool_] = np.cumsum(crossings, axis=1)[:, : shape[1]] % 2 == 1
    return within


def _crossings(line: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where the steps of a line cross the middles of rows: the rows, and the columns there."""
    here, there = line[:-1], line[1:]
    first = np.ceil(np.minimum(here[:, 0], there[:, 0])).astype(np.int64)
    counts = np.ceil(np.maximum(here[:, 0], there[:, 0])).astype(np.int64) - first
    step = np.repeat(np.arange(len(here)), counts)
    rows = first[step] + np.arange(len(step)) - np.repeat(np.cumsum(counts) - counts, counts)
    slope = (there[step, 1] - here[step, 1]) / (there[step, 0] - here[step, 0])
    return rows, here[step, 1] + (rows - here[step, 0]) * slope


def _compare_mask(role: str, name: str, lines: _Lines, mask: NDArray[np.bool_]) -> None:
    for plane, wanted in enumerate(mask):
        drawn = lines.get(plane, [])
        if not drawn and not wanted.any():
            continue
        off = int((inside(drawn, wanted.shape) != wanted).sum())
        if off:
            raise GateFailed(f"{off} pixels of {name} in plane {plane} are on the wrong side in the {role}")


def _compare_marks(name: str, drawn: Sequence[NDArray[np.float64]], found: NDArray[np.float64]) -> None:
    missing = [point for point in found if not any(np.abs(point - each).max() <= _POINT for each in drawn)]
    strange = [point for point in drawn if not any(np.abs(point - each).max() <= _POINT for each in found)]
    if missing or strange:
        raise GateFailed(
            f"{len(missing)} points of {name} are not drawn in the PR, {len(strange)} are strange"
        )


def _contour(
    contour: Dataset, planes: dict[tuple[str, int | None], int], geometry: Geometry
) -> tuple[int, NDArray[np.float64]]:
    if text_of(contour, "ContourGeometricType") != "CLOSED_PLANAR":
        raise GateFailed("a contour of the RTSTRUCT is not closed and planar")
    places = np.reshape(np.array(numbers_of(contour, "ContourData")), (-1, 3))
    if len(places) != contour.NumberOfContourPoints:
        raise GateFailed("a contour of the RTSTRUCT has more or fewer points than it says")
    plane = planes[_frame_named(contour.ContourImageSequence[0])]
    index = (places - geometry.affine[:3, 3]) @ np.linalg.inv(geometry.affine[:3, :3]).T
    if np.abs(index[:, 0] - plane).max() > _ON_PLANE:
        raise GateFailed("a contour of the RTSTRUCT lies on another plane than its image")
    return plane, index[:, 1:]


def _planes(geometry: Geometry) -> dict[tuple[str, int | None], int]:
    return {(source.SOPInstanceUID, source.frame): plane for plane, source in enumerate(geometry.frames)}


def _frame_named(item: Dataset) -> tuple[str, int | None]:
    frame = item.get("ReferencedFrameNumber")
    return text_of(item, "ReferencedSOPInstanceUID"), None if frame is None else int(frame)
