"""What in a series may be passed over: localizers beside the volume, frames of reference of single slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.errors import Refused
from dicomnode.imaging.elements import alike, numbers_of, text_of
from dicomnode.imaging.planes import Plane, with_elements

LOCALIZER_DEGREES = 20.0
"""Planes that are turned against the others by more than this are localizers, not badly written slices."""
MOST_LOCALIZERS = 3
"""How many planes one orientation may have and still be passed over."""


def without_localizers(planes: Sequence[Plane]) -> tuple[list[Plane], tuple[str, ...]]:
    """The planes without localizers, and a note where there were any.

    A localizer says so in ImageType (PS3.3 C.8.2.1.1.1), or is one of a few planes turned against all others.
    Raises Refused LOCALIZER where there is nothing else.
    """
    headers = [plane.header for plane in planes]
    if alike(headers, "ImageType", "ImageOrientationPatient") and not _says_localizer(headers[0]):
        return list(planes), ()
    rest = [plane for plane in planes if not _says_localizer(plane.header)]
    if not rest:
        raise Refused("LOCALIZER", f"all {len(planes)} images are localizers")
    kept = _of_main_orientation(rest)
    count = len(planes) - len(kept)
    if not count:
        return kept, ()
    return kept, (f"{count} localizer {'image was' if count == 1 else 'images were'} left out",)


def in_one_space(ordered: Sequence[Dataset]) -> tuple[tuple[Dataset, ...], tuple[str, ...]]:
    """The headers of slices with one FrameOfReferenceUID, and a note where they had one each.

    De-identification has given whole collections a frame of reference for each slice. Slices of one series on
    one regular grid are in one space all the same; that of slice 0 then stands for all.
    Raises Refused MIXED_FRAME_OF_REFERENCE where some slices share one and others do not.
    """
    if alike(ordered, "FrameOfReferenceUID"):
        return tuple(ordered), ()
    uids = [text_of(ds, "FrameOfReferenceUID") for ds in ordered]
    different = len(set(uids))
    if different == 1:
        return tuple(ordered), ()
    if different < len(ordered):
        raise Refused(
            "MIXED_FRAME_OF_REFERENCE", f"{different} frames of reference among {len(ordered)} slices"
        )
    tag = Tag("FrameOfReferenceUID")
    first = ordered[0][tag]
    unified = tuple(with_elements(ds, {**dict(ds.items()), tag: first}) for ds in ordered)
    return unified, (
        "each slice names a frame of reference of its own; that of the first slice stands for all",
    )


def _says_localizer(ds: Dataset) -> bool:
    return "LOCALIZER" in text_of(ds, "ImageType").split("\\")


def _of_main_orientation(planes: Sequence[Plane]) -> list[Plane]:
    """The planes without those few that are turned against most; all of them where it is not so clear."""
    normals = [_normal(plane.header) for plane in planes]
    if any(normal is None for normal in normals):
        return list(planes)
    orientations = _orientations(np.array(normals, np.float64))
    main = max(orientations, key=len)
    others = [found for found in orientations if found is not main]
    if any(len(found) > MOST_LOCALIZERS for found in others) or 2 * len(main) <= len(planes):
        return list(planes)
    return [planes[number] for number in main]


def _orientations(normals: NDArray[np.float64]) -> list[list[int]]:
    """The numbers of the planes by orientation; normals that point opposite ways are of one."""
    near = np.cos(np.radians(LOCALIZER_DEGREES))
    found: list[list[int]] = []
    for number, normal in enumerate(normals):
        for members in found:
            if abs(normals[members[0]] @ normal) > near:
                members.append(number)
                break
        else:
            found.append([number])
    return found


def _normal(ds: Dataset) -> NDArray[np.float64] | None:
    cosines = numbers_of(ds, "ImageOrientationPatient", 6)
    return None if cosines is None else np.cross(cosines[:3], cosines[3:])
