"""A conformance statement as tests read it: its tables, and the contexts that they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dicomnode.cli.conformance import to_record
from dicomnode.services.conformance.document import Statement

Row = dict[str, object]


@dataclass(frozen=True)
class Proposed:
    """One presentation context that is proposed: as SCU, unless another role is selected."""

    SOPClassUID: str
    TransferSyntaxUIDs: tuple[str, ...]
    role: str


class Stated:
    """What a statement says, by the titles of its tables."""

    def __init__(self, statement: Statement | dict[str, object]) -> None:
        self.statement = statement
        record = to_record(statement) if isinstance(statement, Statement) else statement
        self.sections = [section["title"] for section in record["sections"]]
        self.text = "\n".join(text for section in record["sections"] for text in section["text"])
        self.tables = {
            table["title"]: table["rows"] for section in record["sections"] for table in section["tables"]
        }

    def rows(self, title: str) -> list[Row]:
        return self.tables[title]

    def rows_of(self, prefix: str) -> list[Row]:
        return [row for title, rows in self.tables.items() if title.startswith(prefix) for row in rows]

    def syntaxes(self, name: str) -> list[str]:
        """The members of a set of transfer syntaxes."""
        return [row["UID"] for row in self.rows("Transfer syntaxes") if row["Set"] == name]

    def accepted(self) -> list[Row]:
        """The presentation contexts that the node accepts."""
        return self.rows_of("Accepted presentation contexts: ")

    def accepted_pairs(self) -> list[tuple[str, str]]:
        """SOP class and transfer syntax."""
        return [
            (row["UID"], syntax)
            for row in self.accepted()
            for syntax in self.syntaxes(row["Transfer syntaxes"])
        ]

    def proposed(self) -> set[Proposed]:
        """The presentation contexts that the node proposes."""
        return contexts_of(self.rows_of("Proposed presentation contexts: "))

    def offered_beside(self, syntax: str) -> list[str]:
        """In what a stored instance is offered to the destination of a C-MOVE, its own form first."""
        for row in self.rows("Proposed transfer syntaxes: sub-operations of C-MOVE"):
            if syntax in uids_of(row["Stored in"]):
                return [syntax, *uids_of(row["Offered beside"])]
        raise AssertionError(syntax)


def uids_of(cell: object) -> list[str]:
    """The UIDs of "name (UID)"."""
    assert isinstance(cell, (list, tuple))
    return [found[1] for value in cell if (found := re.search(r"\(([0-9.]+)\)$", value))]


def contexts_of(rows: Iterable[Row]) -> set[Proposed]:
    """The presentation contexts of a table."""
    return {each for row in rows for each in _contexts(row)}


def _contexts(row: Row) -> Iterator[Proposed]:
    syntaxes, role = uids_of(row["Transfer syntaxes"]), str(row["Role"])
    if row["Presentation contexts"] == "one":
        yield Proposed(str(row["UID"]), tuple(syntaxes), role)
    else:
        yield from (Proposed(str(row["UID"]), (syntax,), role) for syntax in syntaxes)
