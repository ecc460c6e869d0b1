"""The planes of an instance: one header a frame, each as a single-frame instance would have it.

A multi-frame instance tells what its frames share once, and what is a frame's own in functional groups (PS3.3
C.7.6.16). Laid over the attributes of the data set they make the header that the rest of the code reads, so
that it knows one kind of source only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import format_number_as_ds

from dicomnode.errors import Refused
from dicomnode.imaging.elements import number_of, value_of
from dicomnode.imaging.headers import UNREADABLE

_SHARED = "SharedFunctionalGroupsSequence"
_PER_FRAME = "PerFrameFunctionalGroupsSequence"
_OF_FRAMES = (Tag(_SHARED), Tag(_PER_FRAME))
_NOT_OF_A_PLANE = frozenset({*_OF_FRAMES, Tag("NumberOfFrames")})
_KEPT_WHOLE = frozenset(
    map(
        Tag,
        (
            "ReferencedImageSequence",
            "DerivationImageSequence",
            "ConversionSourceAttributesSequence",
            "RealWorldValueMappingSequence",
        ),
    )
)
"""Groups that are about something else: laid over, their attributes would be said of the frame."""
_SINGLE_FRAME_NAMES = {
    "FrameType": "ImageType",
    "EffectiveEchoTime": "EchoTime",
    "InversionTimes": "InversionTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameLaterality": "ImageLaterality",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
}
"""What an attribute of a functional group is called in single-frame IODs."""
_RENAMED = {Tag(group): Tag(single) for group, single in _SINGLE_FRAME_NAMES.items()}

_Elements = dict[BaseTag, Any]


@dataclass(frozen=True, slots=True)
class Plane:
    """The header of one plane, and its frame, counted from 1; None in a single-frame instance."""

    header: Dataset
    frame: int | None


def is_multi_frame(ds: Dataset) -> bool:
    """Whether the pixel data is made of frames, be it only one (PS3.3 C.7.6.6, C.7.6.16)."""
    return any(tag in ds for tag in _OF_FRAMES) or (number_of(ds, "NumberOfFrames") or 1) > 1


def planes_of(ds: Dataset) -> tuple[Plane, ...]:
    """One plane a frame, in their order; shallow copies that share their values with `ds`.

    Where a functional group has another name for what single-frame IODs have too, the header has both: an
    EffectiveEchoTime is also the EchoTime, a FrameType the ImageType. Raises Refused MULTI_FRAME where the
    frames have no functional groups, or not one each, or broken ones.
    """
    if not is_multi_frame(ds):
        return (Plane(ds, None),)
    frames, groups = int(number_of(ds, "NumberOfFrames") or 1), value_of(ds, _PER_FRAME) or ()
    if len(groups) != frames:
        raise Refused(
            "MULTI_FRAME", f"one instance has {frames} frames and tells the places of {len(groups)}"
        )
    try:
        shared = _without_groups(ds) | _laid_over(value_of(ds, _SHARED) or ())
        headers = [with_elements(ds, shared | _laid_over([group])) for group in groups]
    except UNREADABLE as error:
        raise Refused("MULTI_FRAME", f"the functional groups are broken ({type(error).__name__})") from None
    return tuple(Plane(header, number) for number, header in enumerate(headers, 1))


def first_plane(ds: Dataset) -> Dataset:
    """The header of the first plane, or `ds` itself where its frames tell no places."""
    try:
        return planes_of(ds)[0].header
    except Refused:
        return ds


def with_elements(ds: Dataset, elements: _Elements) -> Dataset:
    """A header of these elements, in the transfer syntax of `ds`."""
    new = Dataset(elements)
    if (meta := getattr(ds, "file_meta", None)) is not None:
        new.file_meta = meta
    return new


def _without_groups(ds: Dataset) -> _Elements:
    return {tag: element for tag, element in ds.items() if tag not in _NOT_OF_A_PLANE}


def _laid_over(groups: Sequence[Dataset]) -> _Elements:
    """The attributes of all functional groups in the items `groups`, as if they were of one data set."""
    elements: _Elements = {}
    for macro in (element for group in groups for element in group):
        if macro.VR != "SQ" or macro.tag.is_private:
            continue
        if macro.tag in _KEPT_WHOLE:
            elements[macro.tag] = macro
            continue
        for element in (element for item in macro.value[:1] for element in item):
            elements[element.tag] = element
            if (single := _RENAMED.get(element.tag)) is not None:
                elements[single] = _renamed(element, single)
    return elements


def _renamed(element: DataElement, tag: BaseTag) -> DataElement:
    if (vr := dictionary_VR(tag)) != "DS":
        return DataElement(tag, vr, element.value)
    numbers = element.value if isinstance(element.value, Sequence) else [element.value]
    return DataElement(tag, vr, [format_number_as_ds(float(number)) for number in numbers])
