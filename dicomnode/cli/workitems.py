"""`dicomnode workitems`: work that others are asked to do, by UPS Push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from dicomnode.cli.common import DEFAULT_CONFIG, ConfigOption, print_json
from dicomnode.config import Config, load_config
from dicomnode.errors import NotFound
from dicomnode.model.peer import Peer

app = typer.Typer(help="Work items of other nodes.", no_args_is_help=True)

PeerArgument = Annotated[str, typer.Argument(help="The AE title of a [[peer]].")]
UIDArgument = Annotated[str, typer.Argument(help="The SOPInstanceUID of the work item.")]


@app.callback()
def _group() -> None:
    """Work items of other nodes."""


@app.command()
def create(
    peer: PeerArgument,
    order: Annotated[Path, typer.Argument(help="The work item, in the DICOM JSON model.")],
    uid: Annotated[str, typer.Option(help="Its SOPInstanceUID; a new one where not given.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Have a peer take a work item in; prints its UID."""
    # Here and below: the other commands answer without loading what only this one needs.
    from pydicom.dataset import Dataset

    from dicomnode.dimse import ups_user

    settings = load_config(config)
    try:
        ds = Dataset.from_json(order.read_text())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise typer.BadParameter(f"{order} is no data set in the DICOM JSON model") from error
    uid = uid or f"2.25.{uuid4().int}"
    modified = ups_user.create(_peer(settings, peer), settings.node.ae_title, uid, ds)
    typer.echo(uid)
    if modified:
        typer.echo("created with modifications", err=True)


@app.command()
def show(peer: PeerArgument, uid: UIDArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print a work item of a peer, in the DICOM JSON model."""
    from dicomnode.dimse import ups_user

    settings = load_config(config)
    print_json(ups_user.retrieve(_peer(settings, peer), settings.node.ae_title, uid).to_json_dict())


@app.command()
def cancel(
    peer: PeerArgument,
    uid: UIDArgument,
    reason: Annotated[str, typer.Option(help="Why; the peer keeps it.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Ask a peer to cancel a work item."""
    from dicomnode.dimse import ups_user

    settings = load_config(config)
    before = ups_user.request_cancel(_peer(settings, peer), settings.node.ae_title, uid, reason)
    typer.echo("it was cancelled before" if before else "cancelled")


def _peer(config: Config, ae_title: str) -> Peer:
    found = config.peer_named(ae_title)
    if found is None:
        raise NotFound("[[peer]]", ae_title)
    return found
