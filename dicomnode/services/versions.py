"""Which version of a pipeline a series is given to, and what an administrator orders about that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import structlog

from dicomnode.errors import ConfigError, NotFound
from dicomnode.model.version import Activation, Shadowing, Version
from dicomnode.pipeline.registry import InstalledPipeline, Registry, verify_pipeline
from dicomnode.store import versions
from dicomnode.store.database import Database, Transaction

log = structlog.get_logger()


class Use(StrEnum):
    """What a version is for."""

    ACTIVE = "active"
    SHADOW = "shadow"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Standing:
    """One version: what it is for, since when and by whom, and how many jobs that are not settled need it.

    `problem`: why such a job cannot run, "" where it can.
    """

    version: Version
    use: Use
    percent: float | None = None
    since: datetime | None = None
    actor: str | None = None
    jobs: int = 0
    problem: str = ""


def active_version(tx: Transaction, registry: Registry, pipeline: str) -> Version:
    """The version that a series is given to now, installed or not.

    Where nobody has said which, it is the only one there is. Raises NotFound where there is none, or several.
    """
    said = versions.active(tx, pipeline)
    if said is not None:
        return said.version
    found = registry.versions(pipeline)
    if len(found) > 1:
        raise NotFound("active version of", pipeline)
    return found[0].version


def priors_of(registry: Registry, version: Version) -> tuple[str, ...]:
    """What is sought for a job of a version; nothing where it is not installed, and the job will say so."""
    try:
        manifest = registry.pinned(version.pipeline, version.digest).manifest
    except NotFound:
        return ()
    return tuple(prior.name for prior in manifest.prior)


def settle_versions(database: Database, registry: Registry) -> None:
    """Before a node starts: each pipeline has one active version, and it is installed.

    The only version of a pipeline is active without a command, also where its files were changed in place.
    Raises ConfigError where an administrator has to say which.
    """
    problems = []
    for name in registry.names():
        with database.begin() as tx:
            said = versions.active(tx, name)
            problem = _settle(tx, said, registry.versions(name))
        if problem:
            problems.append(f"{problem}: `dicomnode pipelines promote {name} VERSION` says which is to be")
    if problems:
        raise ConfigError("pipelines", problems)


def _settle(tx: Transaction, said: Activation | None, found: Sequence[InstalledPipeline]) -> str:
    """Adopt what needs no decision; or what is to be decided."""
    (name, installed) = found[0].version.pipeline, ", ".join(each.version.version for each in found)
    if said is None:
        if len(found) > 1:
            return f"{name}: {installed} are installed, and none is the active version"
    elif said.version in [each.version for each in found]:
        return ""
    elif [each.version.version for each in found] != [said.version.version]:
        return f"{name}: {_missing(said.version, found)}; installed are {installed}"
    versions.adopt(tx, found[0].version)
    log.info("pipeline.adopted", pipeline=name, version=installed, digest=found[0].digest)
    return ""


def _missing(version: Version, found: Sequence[InstalledPipeline]) -> str:
    """Why a version cannot run."""
    if version.version in [each.version.version for each in found]:
        return f"{version.version} has other files than digest {version.digest[:12]}"
    return f"{version.version} is not installed"


def describe_versions(database: Database, registry: Registry) -> list[Standing]:
    """Every version that is installed, active, in a shadow or waited for by a job, by pipeline.

    Before the first start, when there is no database yet, those that are installed.
    """
    if database.schema_status().found is None:
        return [Standing(each.version, Use.IDLE) for each in registry.all()]
    database.require_schema()
    with database.read() as tx:
        actives = {each.version: each for each in versions.actives(tx)}
        shadows = {each.version: each for each in versions.shadows(tx)}
        jobs = versions.waited_for(tx)
    installed = [each.version for each in registry.all()]
    said = {version.pipeline for version in actives}
    standings = []
    for version in dict.fromkeys([*installed, *actives, *shadows, *jobs]):
        standing = _standing(version, actives.get(version), shadows.get(version))
        only = [each for each in installed if each.pipeline == version.pipeline] == [version]
        if only and version.pipeline not in said:
            standing = replace(standing, use=Use.ACTIVE)
        problem = "" if version in installed else _missing(version, _installed(registry, version.pipeline))
        standings.append(replace(standing, jobs=jobs.get(version, 0), problem=problem))
    return sorted(standings, key=lambda each: each.version.pipeline)


def missing_versions(database: Database, registry: Registry) -> list[str]:
    """A sentence for each version that is needed and not installed as it was."""
    return [
        f"{each.version.pipeline}: {each.problem}, and is {each.use}; {each.jobs} jobs wait for it"
        for each in describe_versions(database, registry)
        if each.problem
    ]


def _standing(version: Version, active: Activation | None, shadow: Shadowing | None) -> Standing:
    if active is not None:
        return Standing(version, Use.ACTIVE, since=active.at, actor=active.actor)
    if shadow is not None:
        return Standing(version, Use.SHADOW, shadow.percent, shadow.at, shadow.actor)
    return Standing(version, Use.IDLE)


def _installed(registry: Registry, pipeline: str) -> Sequence[InstalledPipeline]:
    try:
        return registry.versions(pipeline)
    except NotFound:
        return ()


def promote(database: Database, registry: Registry, pipeline: str, version: str, actor: str) -> None:
    """It is the active version from the next routed series on; what waits keeps the version it was made for.

    Raises NotFound; ConfigError where its files are not sound, or it is the active version already.
    """
    found = registry.get(pipeline, version)
    _require_sound(found)
    with database.begin() as tx:
        said = versions.active(tx, pipeline)
        if said is not None and said.version == found.version:
            raise ConfigError(pipeline, [f"{version} is the active version already"])
        versions.promote(tx, found.version, actor)
    log.info("pipeline.promoted", pipeline=pipeline, version=version, digest=found.digest)


def roll_back(database: Database, registry: Registry, pipeline: str, actor: str) -> Version:
    """The version before the active one is it again, from the next routed series on.

    Raises NotFound where there was none, or where it is not installed as it was.
    """
    with database.begin() as tx:
        version = versions.roll_back(tx, pipeline, actor)
        registry.pinned(version.pipeline, version.digest)
    log.info("pipeline.rolled_back", pipeline=pipeline, version=version.version, digest=version.digest)
    return version


def begin_shadow(
    database: Database, registry: Registry, pipeline: str, version: str, percent: float, actor: str
) -> None:
    """It runs beside the active version on that share of the series, from the next routed one on.

    Raises NotFound; ConfigError where its files are not sound, or it is the active version.
    """
    found = registry.get(pipeline, version)
    _require_sound(found)
    with database.begin() as tx:
        if active_version(tx, registry, pipeline) == found.version:
            raise ConfigError(pipeline, [f"{version} is the active version: it has no shadow of itself"])
        versions.begin_shadow(tx, found.version, percent, actor)
    log.info("shadow.begun", pipeline=pipeline, version=version, percent=percent)


def end_shadow(database: Database, pipeline: str, version: str, actor: str) -> None:
    """It makes no further jobs; those that wait still run. Raises NotFound where it was in no shadow."""
    with database.begin() as tx:
        versions.end_shadow(tx, pipeline, version, actor)
    log.info("shadow.ended", pipeline=pipeline, version=version)


def _require_sound(pipeline: InstalledPipeline) -> None:
    if problems := verify_pipeline(pipeline):
        raise ConfigError(pipeline.folder, problems)
