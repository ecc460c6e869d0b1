"""`dicomnode pipelines`: what is installed, whether it is sound, and a run without any network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dicomnode.cli import comparing, shadows
from dicomnode.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    print_json,
    print_table,
)
from dicomnode.cli.pausing import add_pausing
from dicomnode.config import load_config
from dicomnode.errors import NotFound
from dicomnode.installation import open_registry, open_stores
from dicomnode.model.manifest import Manifest
from dicomnode.model.queue import PauseKind
from dicomnode.pipeline.registry import verify_pipeline
from dicomnode.services import versions
from dicomnode.services.versions import Standing

app = typer.Typer(help="Pipelines: the models that are installed.", no_args_is_help=True)
add_pausing(app, PauseKind.PIPELINE, lambda config: open_registry(config).names())
for command in (shadows.shadow, comparing.compare, shadows.promote, shadows.rollback):
    app.command()(command)


@app.command("list")
def list_pipelines(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the versions of each pipeline: which one is active, which run in its shadow, which are idle."""
    settings = load_config(config)
    registry = open_registry(settings)
    standings = versions.describe_versions(open_stores(settings).database, registry)
    manifests = {each.version: each.manifest for each in registry.all()}
    if as_json:
        print_json([_standing(each, manifests.get(each.version)) for each in standings])
        return
    print_table(
        "Pipelines",
        ("name", "version", "use", "since", "by", "jobs", "title", "segments", "digest", ""),
        [_row(each, manifests.get(each.version)) for each in standings],
    )


def _standing(standing: Standing, manifest: Manifest | None) -> dict[str, object]:
    told = {key: value for key, value in asdict(standing).items() if key != "version"}
    return {
        **({} if manifest is None else manifest.model_dump(mode="json")),
        "name": standing.version.pipeline,
        "version": standing.version.version,
        "digest": standing.version.digest,
        **told,
    }


def _row(standing: Standing, manifest: Manifest | None) -> tuple[object, ...]:
    share = "" if standing.percent is None else f" {standing.percent:g} %"
    return (
        standing.version.pipeline,
        standing.version.version,
        f"{standing.use}{share}",
        standing.since,
        standing.actor,
        standing.jobs or None,
        manifest.pipeline.title if manifest else None,
        ", ".join(segment.name for segment in manifest.segment) if manifest else None,
        standing.version.digest[:12],
        standing.problem,
    )


@app.command()
def verify(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Check the manifest, bundle and weights of each version; exit status 1 where something is wrong."""
    registry = open_registry(load_config(config))
    problems = {
        f"{each.version.pipeline} {each.version.version}": verify_pipeline(each) for each in registry.all()
    }
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
    version: Annotated[str | None, typer.Option(help="Its version; the latest where not given.")] = None,
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
    found = open_registry(settings).get(pipeline, version)
    written = run_folder(settings, found, folder, out, device, form, priors)
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
