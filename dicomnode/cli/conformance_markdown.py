"""A conformance statement as Markdown with tables (GitHub Flavored Markdown)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dicomnode.services.conformance.document import Cell, Section, Statement, Table

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&])")
_DEEPEST = 6
"""HTML, and so Markdown, has six levels of headings."""


def to_markdown(statement: Statement) -> str:
    """The whole statement; no value of it is taken for markup."""
    blocks = [f"# {_escaped(statement.title)}"]
    for number, section in statement.numbered():
        blocks += _section(number, section)
    return "\n\n".join(blocks) + "\n"


def _section(number: str, section: Section) -> Iterator[str]:
    level = min(number.count(".") + 2, _DEEPEST)
    yield f"{'#' * level} {number} {_escaped(section.title)}"
    yield from map(_escaped, section.text)
    for table in section.tables:
        yield f"**{_escaped(table.title)}**"
        yield _table(table)


def _table(table: Table) -> str:
    lines = [_row(table.columns), _row(("---",) * len(table.columns))]
    return "\n".join([*lines, *(_row(tuple(map(_cell, row))) for row in table.rows)])


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return "<br>".join(map(_escaped, (cell,) if isinstance(cell, str) else cell))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
