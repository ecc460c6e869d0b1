"""`dicomnode serve`: run the node."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomnode import importing
from dicomnode.cli.common import DEFAULT_CONFIG, ConfigOption
from dicomnode.model.role import Role


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    role: Annotated[Role | None, typer.Option(help="Run this role alone, not the whole node.")] = None,
    slot: Annotated[int, typer.Option(help="Which worker this is.")] = 1,
) -> None:
    """Run the node until SIGTERM or Ctrl-C."""
    # Imported here: the other commands answer without loading what only the node needs.
    with importing.much():
        from dicomnode import node

    status = node.serve(config) if role is None else node.serve_role(config, role, slot)
    raise typer.Exit(status)
