"""What the catalog knows of a series and of an instance beside their UIDs, to be searched by."""

from __future__ import annotations

SERIES_KEYWORDS = (
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "BodyPartExamined",
    "SeriesDate",
    "SeriesTime",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
)
REQUEST_KEYWORDS = ("ScheduledProcedureStepID", "RequestedProcedureID")
"""Of the first item of Request Attributes Sequence: what ordered the series."""
IMAGE_KEYWORDS = ("Rows", "Columns", "NumberOfFrames", "BitsAllocated")
"""Whole numbers of an instance that has pixels."""
