"""`dicomnode pipelines`: what is installed, whether it is sound, and a run without any network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicomnode.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table
from dicomnode.cli.pausing import add_pausing
from dicomnode.config import load_config
from dicomnode.errors import NotFound
from dicomnode.installation import open_registry
from dicomnode.model.queue import PauseKind
from dicomnode.pipeline.registry import verify_pipeline

app = typer.Typer(help="Pipelines: the models that are installed.", no_args_is_help=True)
add_pausing(app, PauseKind.PIPELINE, lambda config: open_registry(config).names())


@app.command("list")
def list_pipelines(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the installed pipelines with their versions and digests."""
    registry = open_registry(load_config(config))
    installed = [registry.get(name) for name in registry.names()]
    if as_json:
        print_json([{**p.manifest.model_dump(mode="json"), "digest": p.digest} for p in installed])
        return
    print_table(
        "Pipelines",
        ("name", "version", "title", "segments", "digest"),
        [
            (
                p.manifest.pipeline.name,
                p.manifest.pipeline.version,
                p.manifest.pipeline.title,
                ", ".join(segment.name for segment in p.manifest.segment),
                p.digest[:12],
            )
            for p in installed
        ],
    )


@app.command()
def verify(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Check each pipeline's manifest, bundle and weights; exit status 1 where something is wrong."""
    registry = open_registry(load_config(config))
    problems = {name: verify_pipeline(registry.get(name)) for name in registry.names()}
    if as_json:
        print_json(problems)
    else:
        for name, found in problems.items():
            typer.echo(f"{name}: " + ("sound" if not found else ""))
            for problem in found:
                typer.echo(f"  {problem}")
    raise typer.Exit(1 if any(problems.values()) else 0)


@app.command()
def run(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.")],
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="One series of DICOM files.")],
    out: Annotated[Path, typer.Option(help="Where the results are written.")],
    profile: Annotated[str, typer.Option(help="The form, as of a destination.")] = "generic",
    device: Annotated[str | None, typer.Option(help="Instead of the setting workers.device.")] = None,
    prior: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="An earlier series, the latest first.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Run a pipeline over the series in a folder, without database and network."""
    # Imported here: listing needs no codecs and no results.
    from dicomnode.services.local_run import run_folder

    settings = load_config(config)
    form = settings.profile_named(profile)
    if form is None:
        raise NotFound("profile", profile)
    priors = [_prior(text) for text in prior or ()]
    written = run_folder(settings, open_registry(settings).get(pipeline), folder, out, device, form, priors)
    for path in written.left_out:
        typer.echo(f"left out, for it is no DICOM file: {path}", err=True)
    if as_json:
        print_json({"files": [str(path) for path in written.files], "timings": written.timings})
        return
    print_table(
        "Segments",
        ("segment", "volume (ml)"),
        [(name, f"{volume:.1f}") for name, volume in written.volumes_ml.items()],
    )
    for path in written.files:
        typer.echo(path)


def _prior(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not separator or not Path(folder).is_dir():
        raise typer.BadParameter(f"{text!r} is no name of a prior, = and a folder", param_hint="--prior")
    return name, Path(folder)
