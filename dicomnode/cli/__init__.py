"""The command line: one module a group of commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dicomnode import __version__
from dicomnode.cli import (
    conformance,
    db,
    deliveries,
    jobs,
    passcode,
    pipelines,
    routes,
    series,
    serve,
    status,
    workers,
    workitems,
)
from dicomnode.errors import ConfigError, DicomnodeError
from dicomnode.logs import configure_logs
from dicomnode.supervisor import EXIT_CONFIG

app = typer.Typer(
    name="dicomnode",
    help="A DICOM node beside the PACS: a study goes in, an AI result comes back as standard DICOM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dicomnode {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What every command has in common."""


app.command("serve")(serve.serve)
app.command("status")(status.status)
app.command("passcode")(passcode.passcode)
app.command("conformance")(conformance.conformance)
for name, group in (
    ("db", db.app),
    ("deliveries", deliveries.app),
    ("jobs", jobs.app),
    ("pipelines", pipelines.app),
    ("routes", routes.app),
    ("series", series.app),
    ("workers", workers.app),
    ("workitems", workitems.app),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Run one command; an error that was foreseen is one line, not a traceback."""
    # What a command answers is on standard output; `serve` sets up the logs of its own.
    configure_logs("warning", "console")
    try:
        app()
    except DicomnodeError as error:
        print(f"dicomnode: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIG if isinstance(error, ConfigError) else 1)
