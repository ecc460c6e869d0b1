"""A C-FIND query as values: what the catalog has to match, and what it has to answer (PS3.4 C.2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The levels of the Study Root information model (PS3.4 C.6.2.1)."""

    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


UNIQUE_KEYS: dict[Level, str] = {
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


Match = Single | AnyOf | Wildcard | Range


@dataclass(frozen=True, slots=True)
class Query:
    """One C-FIND identifier.

    `matches` holds the keys that constrain, by keyword. A key of universal matching (C.2.2.2.3) constrains
    nothing: it is in `return_keys` alone. `return_keys` are all keys of the identifier, in its order.
    """

    level: Level
    matches: Mapping[str, Match]
    return_keys: tuple[str, ...]
