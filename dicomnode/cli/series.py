"""`dicomnode series`: what an administrator can order for a series."""

from __future__ import annotations

import typer

from dicomnode.cli.common import DEFAULT_CONFIG, ConfigOption, stores_of
from dicomnode.services.completion import order_completion

app = typer.Typer(help="Series that arrive.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Series that arrive."""


@app.command()
def complete(uid: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Take the series of this SeriesInstanceUID as complete now, without waiting."""
    ordered = order_completion(stores_of(config).database, uid)
    typer.echo("complete" if ordered else "it was complete already")
