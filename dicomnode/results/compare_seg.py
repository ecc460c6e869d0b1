"""Two Segmentations of the same series, and how far their segments overlap (PS3.3 C.8.20)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from dicomnode.imaging.elements import number_of, numbers_of, text_of
from dicomnode.model.comparison import SegmentCompared, Side
from dicomnode.results.gate_frames import Source, frames_told

Bits = NDArray[np.uint8]
Meaning = tuple[str, ...]
"""The codes of a segment's category and type; its label too, where another one has the same codes."""


@dataclass(frozen=True, slots=True)
class Mask:
    """A segment's voxels, packed, by the image that each frame lies on.

    `voxel_ml` is None where the source has no place in the patient.
    """

    title: str
    frames: Mapping[Source, Bits]
    voxel_ml: float | None

    @property
    def voxels(self) -> int:
        """How many voxels it has."""
        return sum(_count(bits) for bits in self.frames.values())

    @property
    def volume_ml(self) -> float | None:
        """Its volume."""
        return None if self.voxel_ml is None else self.voxels * self.voxel_ml


def compare_segments(active: Dataset, shadow: Dataset) -> tuple[SegmentCompared, ...]:
    """Every segment that either BINARY or LABELMAP Segmentation declares, by what its codes mean."""
    named = [list(_segments(ds)) for ds in (active, shadow)]
    codes = [Counter(_codes(item) for item in items) for items in named]
    alike = {code for counted in codes for code, times in counted.items() if times > 1}
    ours, theirs = (_masks(ds, items, alike) for ds, items in zip((active, shadow), named, strict=True))
    return tuple(_compared(ours.get(meaning), theirs.get(meaning)) for meaning in {**ours, **theirs})


def dice(one: Mask, other: Mask) -> float | None:
    """Twice what they share over what they are together, 0 to 1; None where neither has a voxel."""
    together = one.voxels + other.voxels
    shared = sum(
        _count(bits & other.frames[place])
        for place, bits in one.frames.items()
        if place in other.frames and other.frames[place].size == bits.size
    )
    return 2 * shared / together if together else None


def _compared(active: Mask | None, shadow: Mask | None) -> SegmentCompared:
    if active is None or shadow is None:
        side = Side.SHADOW if active is None else Side.ACTIVE
        return SegmentCompared(
            segment=next(mask.title for mask in (active, shadow) if mask is not None),
            dice=None,
            active_ml=active.volume_ml if active else None,
            shadow_ml=shadow.volume_ml if shadow else None,
            only_in=side,
        )
    return SegmentCompared(
        segment=active.title,
        dice=dice(active, shadow),
        active_ml=active.volume_ml,
        shadow_ml=shadow.volume_ml,
    )


def _segments(ds: Dataset) -> Iterator[Dataset]:
    """Those of the Segment Sequence but for the background's (PS3.3 C.8.20.2)."""
    return (item for item in ds.SegmentSequence if int(item.SegmentNumber))


def _codes(item: Dataset) -> Meaning:
    category, kind = item.SegmentedPropertyCategoryCodeSequence[0], item.SegmentedPropertyTypeCodeSequence[0]
    return tuple(
        text_of(code, keyword)
        for code in (category, kind)
        for keyword in ("CodeValue", "LongCodeValue", "CodingSchemeDesignator")
    )


def _masks(ds: Dataset, items: Sequence[Dataset], alike: set[Meaning]) -> dict[Meaning, Mask]:
    frames: dict[int, dict[Source, Bits]] = {int(item.SegmentNumber): {} for item in items}
    for number, place, bits in _planes(ds, list(frames)):
        frames[number][place] = bits
    voxel_ml, masks = _voxel_ml(ds), dict[Meaning, Mask]()
    for item in items:
        meaning, title = _codes(item), text_of(item.SegmentedPropertyTypeCodeSequence[0], "CodeMeaning")
        if meaning in alike:
            label = text_of(item, "SegmentLabel")
            meaning, title = (*meaning, label), f"{title}: {label}"
        masks[meaning] = Mask(title, frames[int(item.SegmentNumber)], voxel_ml)
    return masks


def _planes(ds: Dataset, numbers: Sequence[int]) -> Iterator[tuple[int, Source, Bits]]:
    """Each segment's voxels on each image that it has a frame on."""
    told = frames_told(ds)
    if text_of(ds, "SegmentationType") == "LABELMAP":
        for (source, _, _), pixels in zip(told, iter_pixels(ds), strict=True):
            for number in set(np.unique(pixels).tolist()) & set(numbers):
                yield number, source, np.packbits(pixels.reshape(-1) == number)
        return
    packed, size = np.frombuffer(ds.PixelData, np.uint8), int(ds.Rows) * int(ds.Columns)
    for place, (source, segment, _) in enumerate(told):
        if segment is not None:
            yield segment, source, np.packbits(_frame(packed, place * size, size))


def _frame(packed: Bits, first: int, count: int) -> Bits:
    """`count` bits from `first` on: between frames there is no gap (PS3.5 8.1.1)."""
    byte, shift = divmod(first, 8)
    chunk = packed[byte : -(-(first + count) // 8)]
    return np.unpackbits(chunk, bitorder="little")[shift : shift + count]


def _voxel_ml(ds: Dataset) -> float | None:
    shared = ds.SharedFunctionalGroupsSequence[0]
    if "PixelMeasuresSequence" not in shared:
        return None
    measures = shared.PixelMeasuresSequence[0]
    spacing, between = numbers_of(measures, "PixelSpacing", 2), number_of(measures, "SpacingBetweenSlices")
    return None if spacing is None or between is None else spacing[0] * spacing[1] * between / 1000


def _count(bits: Bits) -> int:
    return int(np.bitwise_count(bits).sum())
