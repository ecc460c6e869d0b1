"""One X-ray projection (CR, DX, mammography) as an image without a place in the patient (PS3.3 C.8.11)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.imaging.consistency import PROJECTIONS, require_grey_images, require_one_series
from dicomnode.imaging.elements import number_of, numbers_of, text_of
from dicomnode.imaging.geometry import Geometry, SourceFrame, frozen
from dicomnode.imaging.headers import read_instances
from dicomnode.imaging.pixels import modality_range
from dicomnode.imaging.stacks import Choose, images_of
from dicomnode.imaging.volume import Volume, decode_planes

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
"""Where a projection tells its spacing, the calibrated first (PS3.3 10.7.1.3, C.8.11.4, C.8.1.2)."""
_NO_SPACING = "the image tells no pixel spacing: lengths are in pixels"


def image_geometry(
    headers: Sequence[Dataset], choose: Choose | None = None
) -> tuple[Geometry, tuple[Dataset, ...]]:
    """The pixels of one projection image as a grid of one slice, and its header.

    The slice's rows and columns are in the image plane: index (0, row, column) is taken to (column × column
    spacing, row × row spacing, 0) in mm, or in pixels where `Geometry.in_mm` is False. Where the series
    has several images, `choose` takes one by its facts (`stacks.STACK_FACTS`).

    Raises Refused: NOT_A_PROJECTION, SEVERAL_STACKS, NO_STACK, and the codes of `require_one_series` and
    `require_grey_images`.
    """
    require_one_series(headers)
    require_grey_images(headers)
    for ds in headers:
        if text_of(ds, "SOPClassUID") not in PROJECTIONS or (number_of(ds, "NumberOfFrames") or 1) > 1:
            raise Refused("NOT_A_PROJECTION", "the pipeline takes single X-ray projections; these are none")
    stacks = images_of(headers)
    stack = stacks.choose(choose)
    ds = headers[stack.planes[0]]
    spacing = _spacing(ds)
    row, column = spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.0, 0.0, column], [0.0, row, 0.0], [1.0, 0.0, 0.0]])
    geometry = Geometry(
        shape=(1, int(ds.Rows), int(ds.Columns)),
        affine=frozen(affine),
        spacing=(row, column, 1.0),
        frames=(SourceFrame(str(ds.SOPInstanceUID)),),
        FrameOfReferenceUID="",
        stack=int(stack.facts["index"]) if len(stacks.stacks) > 1 else 0,
        notes=() if spacing else (_NO_SPACING,),
        in_mm=spacing is not None,
    )
    return geometry, (ds,)


def read_image(paths: Sequence[Path], choose: Choose | None = None) -> Volume:
    """Decode one projection image as a volume of one slice.

    Greater values are brighter, as in MONOCHROME2: a MONOCHROME1 image is mirrored within the range that its
    bits can hold (PS3.3 C.7.6.3.1.2). No VOI LUT is applied.

    Raises Refused: NOT_DICOM, PIXELS_UNREADABLE and the codes of `image_geometry`.
    """
    instances = read_instances(paths)
    geometry, (header,) = image_geometry([instance.ds for instance in instances], choose)
    array = decode_planes(instances, geometry, (header,))
    if text_of(header, "PhotometricInterpretation") == "MONOCHROME1":
        lowest, highest = modality_range(header)
        np.subtract(np.float32(lowest + highest), array, out=array)
    return Volume(array, geometry)


def _spacing(ds: Dataset) -> tuple[float, float] | None:
    """Distance between rows and between columns in mm."""
    for keyword in _SPACINGS:
        if (numbers := numbers_of(ds, keyword, 2)) is not None and min(numbers) > 0:
            return numbers[0], numbers[1]
    return None
