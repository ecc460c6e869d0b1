"""`dicomnode pipelines shadow`, `promote`, `rollback`: a new version comes into service."""

from __future__ import annotations

from typing import Annotated

import typer

from dicomnode.cli.common import DEFAULT_CONFIG, ConfigOption, actor, stores_of
from dicomnode.cli.comparing import print_summary, summaries
from dicomnode.config import load_config
from dicomnode.installation import open_registry
from dicomnode.model.version import FEW_COMPARISONS
from dicomnode.services import versions

Pipeline = Annotated[str, typer.Argument(metavar="NAME", help="The pipeline's name.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="As its manifest says.")]


def shadow(
    pipeline: Pipeline,
    version: VersionArgument,
    percent: Annotated[
        float, typer.Option(min=0.01, max=100, help="Of the series, chosen by their UIDs.")
    ] = 100.0,
    stop: Annotated[bool, typer.Option("--stop", help="Make no further shadow jobs of it.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Run a version beside the active one, compare what both make, and deliver nothing of it."""
    database = stores_of(config).database
    if stop:
        versions.end_shadow(database, pipeline, version, actor())
        typer.echo(f"{pipeline} {version} runs on no further series")
        return
    registry = open_registry(load_config(config))
    versions.begin_shadow(database, registry, pipeline, version, percent, actor())
    typer.echo(f"{pipeline} {version} runs beside the active version on {percent:g} % of the series")


def promote(
    pipeline: Pipeline,
    version: VersionArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make a version the active one from the next series on; jobs that wait keep theirs."""
    # Here alone: the other commands need no codecs.
    from dicomnode.services.comparison import find_comparisons

    database, registry = stores_of(config).database, open_registry(load_config(config))
    digest = registry.get(pipeline, version).digest
    found = find_comparisons(database, pipeline, version, None)
    compared = 0
    for pair, summary in summaries([each for each in found if each.shadow_digest == digest]):
        print_summary(pipeline, pair, summary)
        compared += summary.both_done
    if compared < FEW_COMPARISONS and not yes:
        told = f"only {compared} series were" if compared else "no series was"
        typer.confirm(f"{told} compared with {pipeline} {version}: make it the active version?", abort=True)
    versions.promote(database, registry, pipeline, version, actor())
    typer.echo(f"{pipeline} {version} is the active version from the next series on")


def rollback(pipeline: Pipeline, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Make the version active again that was before the one that is."""
    database, registry = stores_of(config).database, open_registry(load_config(config))
    version = versions.roll_back(database, registry, pipeline, actor())
    typer.echo(f"{pipeline} {version.version} is the active version again from the next series on")
