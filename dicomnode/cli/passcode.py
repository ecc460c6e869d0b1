"""`dicomnode passcode`: what `dimse.users` and `web.users` hold of a passcode."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomnode.model.passcode import hash_passcode


def passcode(
    text: Annotated[
        str, typer.Option("--passcode", prompt="passcode", hide_input=True, help="Asked for if not given.")
    ],
) -> None:
    """Print a passcode as config.toml keeps it: hashed."""
    typer.echo(hash_passcode(text))
