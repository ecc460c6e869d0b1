"""What an archive is asked about a series that fell silent, and what it said."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class InquiryState(StrEnum):
    """Where the question stands. All but ASKING are answers, good for the instances that were here then."""

    ASKING = "asking"
    LISTED = "listed"
    """It lists what is here, and nothing else."""
    ANSWERED = "answered"
    """It lists nothing that is not here, but not all that is here."""
    MISSING = "missing"
    """It lists instances that are not here, and did not give them within the limit."""
    UNANSWERED = "unanswered"
    """It could not be asked within the limit."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question to the archive that somebody has taken up."""

    id: int
    series_id: int
    StudyInstanceUID: str
    SeriesInstanceUID: str
