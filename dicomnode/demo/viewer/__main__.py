"""`python -m dicomnode.demo.viewer`: the last demo's study in OHIF, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from dicomnode.demo.viewer.archive import find_orthanc, serving_archive
from dicomnode.demo.viewer.kept import find_kept, last_demo
from dicomnode.demo.viewer.ohif import app_config, find_ohif, viewer_url
from dicomnode.demo.viewer.server import serving_viewer
from dicomnode.errors import DicomnodeError


def main(
    demos: Annotated[Path, typer.Option(help="where the demo leaves its folders")] = Path("build/demo"),
    out: Annotated[Path, typer.Option(help="where the viewer is kept")] = Path("build/viewer"),
    port: Annotated[int, typer.Option(help="the viewer's port; 0 takes a free one")] = 0,
    browser: Annotated[bool, typer.Option(help="open it where there is a desktop")] = True,
) -> None:
    """Show what the last demo archived."""
    console = Console()
    ended = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: ended.set())
    try:
        _show(console, demos, out, port, browser, ended)
    except DicomnodeError as error:
        console.print(f"[red]The viewer cannot open:[/] {error}", highlight=False)
        raise typer.Exit(1) from None


def _show(console: Console, demos: Path, out: Path, port: int, browser: bool, ended: threading.Event) -> None:
    kept = find_kept(last_demo(demos))
    find_orthanc()
    with console.status("fetch OHIF with npm, the first time only"):
        pages = find_ohif(out.resolve())
    with TemporaryDirectory(prefix="dicomnode-viewer-") as folder, serving_archive(Path(folder)) as archive:
        with console.status(f"C-STORE {len(kept.instances)} instances to Orthanc"):
            archive.store(kept.instances)
        with serving_viewer(pages, app_config(), archive.http_port, port) as origin:
            url = viewer_url(origin, kept.StudyInstanceUIDs)
            console.print(url, highlight=False, soft_wrap=True)
            console.print("Double-click SEG or SR in the list on the left. Ctrl-C ends it.")
            if browser:
                _open(url)
            ended.wait()


def _open(url: str) -> None:
    """In the desktop's own browser, where there is a desktop."""
    if not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return
    with suppress(FileNotFoundError, subprocess.TimeoutExpired):
        subprocess.run(["xdg-open", url], check=False, capture_output=True, timeout=20)


if __name__ == "__main__":
    typer.run(main)
