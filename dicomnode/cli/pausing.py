"""`pause` and `resume`, as several command groups have them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated

import typer

from dicomnode.cli.common import DEFAULT_CONFIG, ConfigOption, actor, stores_of
from dicomnode.config import Config, load_config
from dicomnode.errors import NotFound
from dicomnode.model.queue import PauseKind
from dicomnode.services import administration

_HELP = {
    PauseKind.PIPELINE: "Begin no further job of a pipeline; what runs goes on to its end.",
    PauseKind.ROUTE: "Begin no further job of a route; what runs goes on to its end.",
    PauseKind.WORKER: "Give a worker no further job; the one in hand goes on to its end.",
}
Name = Annotated[str, typer.Argument(help="Its name.")]
Reason = Annotated[str, typer.Option(help="Why; `dicomnode status` shows it.")]


def add_pausing(
    app: typer.Typer, kind: PauseKind, known: Callable[[Config], Collection[str]], pause: str = "pause"
) -> None:
    """Add both commands for one kind; `known` are the names, `pause` the name of the first."""

    @app.command(pause, help=_HELP[kind])
    def pause_it(
        name: Name,
        reason: Reason = "",
        config: ConfigOption = DEFAULT_CONFIG,
    ) -> None:
        if name not in known(load_config(config)):
            raise NotFound(kind, name)
        administration.pause(stores_of(config).database, kind, name, reason, actor())
        typer.echo(f"{kind} {name} begins no further job")

    @app.command("resume", help=f"Let a {kind} go on.")
    def resume_it(
        name: Name,
        config: ConfigOption = DEFAULT_CONFIG,
    ) -> None:
        administration.resume(stores_of(config).database, kind, name, actor())
        typer.echo(f"{kind} {name} goes on")
