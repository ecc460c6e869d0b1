"""`dicomnode conformance`: the DICOM conformance statement of this node, made from the node itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from dicomnode.cli.common import DEFAULT_CONFIG, ConfigOption, print_json
from dicomnode.cli.conformance_html import to_html
from dicomnode.cli.conformance_markdown import to_markdown
from dicomnode.config import load_config
from dicomnode.services.conformance.document import Section, Statement, Table


class Format(StrEnum):
    """In which form it is printed."""

    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"


_RENDERERS: Mapping[Format, Callable[[Statement], str]] = {Format.HTML: to_html, Format.MARKDOWN: to_markdown}


def conformance(
    form: Annotated[
        Format, typer.Option("--format", help="For people, for other documents, for programs.")
    ] = Format.MARKDOWN,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print what this node conforms to with its settings, in the order of PS3.2."""
    # Imported here: the other commands answer without loading what only the node needs.
    from dicomnode import node

    statement = node.conformance(load_config(config))
    if form is Format.JSON:
        print_json(to_record(statement))
    else:
        typer.echo(_RENDERERS[form](statement), nl=False)


def to_record(statement: Statement) -> dict[str, Any]:
    """The statement as JSON has it: sections in the order of reading, rows by column."""
    sections = [_section(number, section) for number, section in statement.numbered()]
    return {"title": statement.title, "sections": sections}


def _section(number: str, section: Section) -> dict[str, Any]:
    tables = [_table(table) for table in section.tables]
    return {"number": number, "title": section.title, "text": section.text, "tables": tables}


def _table(table: Table) -> dict[str, Any]:
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return {"title": table.title, "columns": table.columns, "rows": rows}
