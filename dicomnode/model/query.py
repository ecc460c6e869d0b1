"""A query as values: what the catalog has to match, and what it has to answer (PS3.4 C.2.2, PS3.18 8.3.4)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The levels of the Patient Root model; Study Root begins at STUDY (PS3.4 C.6.1.1, C.6.2.1)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


UNIQUE_KEYS: dict[Level, str] = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}
"""What names one entity of each level."""


@dataclass(frozen=True, slots=True)
class Single:
    """Equal to this value (PS3.4 C.2.2.2.1)."""

    value: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Equal to one of these values (PS3.4 C.2.2.2.2)."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """`*` stands for any characters, none included, `?` for exactly one (PS3.4 C.2.2.2.4)."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """From `first` to `last`, both included, None is open; written as DICOM writes them (PS3.4 C.2.2.2.5)."""

    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """Each of these words begins a word of the person's name, whatever case and accents (PS3.18 8.3.4.2)."""

    words: tuple[str, ...]


Match = Single | AnyOf | Wildcard | Range | Fuzzy


@dataclass(frozen=True, slots=True)
class Query:
    """One C-FIND identifier, or one QIDO-RS search.

    `matches` holds the keys that constrain, by keyword. A key of universal matching (C.2.2.2.3) constrains
    nothing: it is in `return_keys` alone. `return_keys` are all keys of the identifier, in its order.
    `instants` are pairs of a date and a time whose ranges are one range of instants (C.2.2.2.5.4).
    Of what matches, `limit` entities (None: all) from the `offset`th on are the answer.
    """

    level: Level
    matches: Mapping[str, Match]
    return_keys: tuple[str, ...]
    offset: int = 0
    limit: int | None = None
    instants: tuple[tuple[str, str], ...] = ()


def are_one_range(days: Match | None, times: Match | None) -> bool:
    """Ranges of dates and of times with the same ends open are one of instants (PS3.4 C.2.2.2.5.4)."""
    if not isinstance(days, Range) or not isinstance(times, Range):
        return False
    return (days.first is None, days.last is None) == (times.first is None, times.last is None)


def fold_name(name: str) -> str:
    """A person's name as names are compared: without case, accents and empty components at its end."""
    parts = unicodedata.normalize("NFKD", name.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part)).rstrip("^= ")
