"""A statement as values: sections with text and tables, in no format yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Cell = str | tuple[str, ...]
"""One value, or several."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of facts; the title is unique in a statement, so that text can name it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Its paragraphs, then its tables, then the sections below it."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """A whole document."""

    title: str
    sections: tuple[Section, ...]

    def numbered(self) -> Iterator[tuple[str, Section]]:
        """Each section with its number, in the order of reading."""
        return numbered(self.sections)


def numbered(sections: Sequence[Section], above: str = "") -> Iterator[tuple[str, Section]]:
    """Each section, and each below it, with its number."""
    for place, section in enumerate(sections, start=1):
        number = f"{above}{place}"
        yield number, section
        yield from numbered(section.sections, f"{number}.")
