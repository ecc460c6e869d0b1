"""`dicomnode deliveries`: which result is where, and what could not be delivered."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomnode.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, stores_of
from dicomnode.model.delivery import DeliveryState
from dicomnode.services import administration

app = typer.Typer(help="Deliveries: one result to one destination.", no_args_is_help=True)


@app.command("list")
def list_deliveries(
    state: Annotated[list[DeliveryState] | None, typer.Option(help="Only these states.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, newest first."""
    found = administration.find_deliveries(stores_of(config).database, tuple(state or ()), limit)
    if as_json:
        print_json(found)
        return
    columns = {
        "ID": "id",
        "destination": "destination",
        "state": "state",
        "attempt": "attempt",
        "role": "role",
        "job": "job_id",
        "reason": "reason",
        "updated": "updated_at",
        "SOPInstanceUID": "SOPInstanceUID",
    }
    print_table("Deliveries", tuple(columns), [[record[key] for key in columns.values()] for record in found])


@app.command()
def retry(
    delivery_id: Annotated[int, typer.Argument(help="The ID in `dicomnode deliveries list`.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Start a dead delivery again."""
    administration.retry_delivery(stores_of(config).database, delivery_id)
    typer.echo(f"delivery {delivery_id} is pending")
