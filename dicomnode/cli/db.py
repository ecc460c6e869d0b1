"""`dicomnode db`: the schema of the database."""

from __future__ import annotations

import typer

from dicomnode.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json
from dicomnode.config import load_config
from dicomnode.installation import open_stores

app = typer.Typer(help="The schema of the database.", no_args_is_help=True)


@app.command()
def upgrade(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Bring the schema to the revision that this version needs."""
    database = open_stores(load_config(config)).database
    before = database.schema_status()
    database.upgrade()
    typer.echo(f"{before.found or 'none'} → {database.schema_status().found}")


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Tell which revision the database has; exit status 1 where it is not the one that is needed."""
    schema = open_stores(load_config(config)).database.schema_status()
    if as_json:
        print_json({"found": schema.found, "expected": schema.expected, "current": schema.current})
    else:
        typer.echo(f"found {schema.found or 'none'}, needed {schema.expected}")
    raise typer.Exit(0 if schema.current else 1)
