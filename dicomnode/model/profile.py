"""What a destination takes, and in which form: viewers and archives differ more than the standard allows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from dicomnode.model.result import ResultRole

_EVERY_ROLE = frozenset(ResultRole)


class Profile(BaseModel):
    """The form of results for one destination; two destinations with equal profiles get the same bytes.

    `report = "viewer"`: each group of the SR carries coordinates, which some viewers need to show it.
    A Segmentation of more than `maximum_frames` or `maximum_mb` is not sent; where `picture_for_seg`, a
    picture takes its place, and the place of a Segmentation that the destination does not take at all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    takes: frozenset[ResultRole] = _EVERY_ROLE
    segmentation: Literal["BINARY", "LABELMAP"] = "BINARY"
    omit_empty_frames: bool = False
    maximum_frames: Annotated[int, Field(gt=0)] | None = None
    maximum_mb: Annotated[float, Field(gt=0)] | None = None
    report: Literal["standard", "viewer"] = "standard"
    picture_for_seg: bool = False
    picture_for_notice: bool = False


PROFILES = {
    "generic": Profile(),
    "ohif3": Profile(omit_empty_frames=True, maximum_mb=200, report="viewer", picture_for_seg=True),
    "orthanc": Profile(),
    "weasis": Profile(omit_empty_frames=True, maximum_frames=400, picture_for_seg=True),
    "dcm4chee": Profile(omit_empty_frames=True),
}
"""By the name that a destination gives in `config.toml`."""
