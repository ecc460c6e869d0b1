"""What the command groups share: the options, the way to the stores, and how answers are printed."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicomnode.config import load_config
from dicomnode.installation import Stores, open_stores
from dicomnode.model.queue import Place

ConfigOption = Annotated[Path, typer.Option("--config", help="The settings.", show_default=True)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_FOLDED = frozenset(
    {"", "deliveries", "expected", "detail", "reason", "seconds", "segments", "send to", "title", "when"}
    | {"SeriesInstanceUID", "SOPInstanceUID"}
)
DEFAULT_CONFIG = Path("config.toml")


def stores_of(config: Path) -> Stores:
    """The stores of a configuration, with the schema that this version knows."""
    stores = open_stores(load_config(config))
    stores.database.require_schema()
    return stores


def actor() -> str:
    """Who gives an order, as it is written down: the account of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def expected(place: Place | None) -> str:
    """When a job's results can be expected, or why that is not known."""
    if place is None:
        return ""
    return shown(place.expected_at) or place.note


def print_json(value: Any) -> None:
    """One JSON document on standard output; times are ISO 8601 in UTC."""
    typer.echo(json.dumps(value, indent=2, default=_plain))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people. Only long columns fold, nothing is cut, and no cell is taken for markup."""
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column not in _FOLDED)
    for row in rows:
        table.add_row(*(escape(shown(cell)) for cell in row))
    console().print(table)


def console() -> Console:
    """Standard output; wide where it is no terminal, since a file needs no folding."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def shown(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return "".join(character if character.isprintable() else "�" for character in str(value))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
