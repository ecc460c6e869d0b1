"""`python -m dicomnode.demo`: the way of one series, before the user's eyes. Status 0 only if it arrived."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from dicomnode.demo.play import Scene, new_folder, play
from dicomnode.errors import DicomnodeError
from dicomnode.model.peer import Peer

_INTERRUPTED = 130


def main(
    input: Annotated[Path | None, typer.Option(help="a folder with one series")] = None,  # noqa: A002  the option's name
    archive: Annotated[str, typer.Option(help="HOST:PORT of an archive of your own")] = "",
    archive_ae: Annotated[str, typer.Option(help="its AE title")] = "ORTHANC",
    out: Annotated[Path, typer.Option(help="where each run gets a folder")] = Path("build/demo"),
    pipelines: Annotated[Path, typer.Option(help="where the pipelines lie")] = Path("pipelines"),
    pipeline: Annotated[str, typer.Option(help="which of them runs")] = "brain_tissue",
    limit: Annotated[float, typer.Option(help="seconds that a step may take")] = 1800.0,
) -> None:
    """Play a scanner, a node and an archive on this machine."""
    console = Console()
    _end_in_order()
    started = time.monotonic()
    try:
        scene = Scene(
            folder=new_folder(out, datetime.now().astimezone()),
            pipelines=pipelines.resolve(),
            pipeline=pipeline,
            series=input,
            archive=_peer(archive, archive_ae),
            limit_s=limit,
        )
        picture = play(scene, console).picture
    except DicomnodeError as error:
        console.print(f"[red]The demo failed:[/] {error}", highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("Interrupted; everything is stopped.")
        raise typer.Exit(_INTERRUPTED) from None
    console.print(f"Picture: {picture}", highlight=False, soft_wrap=True)
    console.print(f"{time.monotonic() - started:.0f} s in all", highlight=False)


def _peer(archive: str, ae_title: str) -> Peer | None:
    if not archive:
        return None
    host, _, port = archive.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(f"{archive!r} is not HOST:PORT")
    return Peer(ae_title, host, int(port))


def _end_in_order() -> None:
    """A signal ends the demo as Ctrl-C does, with its servers."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, interrupt)


if __name__ == "__main__":
    typer.run(main)
