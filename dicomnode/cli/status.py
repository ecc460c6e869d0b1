"""`dicomnode status`: where everything is, or where one study is."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from dicomnode.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    console,
    print_json,
    shown,
    stores_of,
)
from dicomnode.config import Config, load_config
from dicomnode.errors import ConfigError, NotFound, ObjectsAway
from dicomnode.installation import open_registry
from dicomnode.services import administration
from dicomnode.services.versions import missing_versions
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects

Asked = Annotated[
    str | None,
    typer.Argument(
        metavar="[WHAT]", help="A study, series or instance UID, an accession number or a patient ID."
    ),
]


def status(
    what: Asked = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many studies.")] = 10,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Say where studies are: received, complete, routed, run, delivered."""
    stores, settings = stores_of(config), load_config(config)
    database = stores.database
    counts = administration.describe_all(database, [each.name for each in settings.destination])
    studies = administration.describe_studies(database, what, limit, settings.limits)
    if what is not None and not studies:
        raise NotFound("study", what)
    counts["pipelines"] = _pipelines(database, settings)
    counts["objects"] = _objects(stores.objects)
    if as_json:
        print_json({**counts, "list": studies})
        return
    out = console()
    if what is None:
        out.print(_summary(counts))
    for study in studies:
        out.print(_study(study))


def _pipelines(database: Database, settings: Config) -> list[str]:
    """What is wrong with the versions that are needed; a folder that cannot be read hides nothing else."""
    try:
        return missing_versions(database, open_registry(settings))
    except ConfigError as error:
        return [f"pipelines: {problem}" for problem in error.problems]


def _objects(objects: Objects) -> dict[str, str]:
    """Which object store it is, and why it cannot be used now."""
    try:
        objects.check()
    except ObjectsAway as error:
        return {"place": objects.place_name, "away": error.why}
    return {"place": objects.place_name, "away": ""}


def _summary(counts: dict[str, Any]) -> str:
    def states(of: dict[str, int]) -> str:
        return ", ".join(f"{number} {state}" for state, number in sorted(of.items())) or "none"

    stranded = [
        f"{waiting} deliveries wait for {name!r}, which is no destination any more\n"
        for name, waiting in counts["stranded"].items()
    ]
    paused = [
        f"{shown(each['kind'])} {shown(each['name'])!r} is paused by {shown(each['actor'])} "
        f"since {shown(each['at'])}: {shown(each['reason']) or 'no reason was given'}\n"
        for each in counts["paused"]
    ]
    pipelines = [f"{shown(problem)}\n" for problem in counts["pipelines"]]
    objects = counts["objects"]
    away = f"; it cannot be used now: {shown(objects['away'])}" if objects["away"] else ""
    of_shadows = counts["shadow_jobs"]
    shadows = f"  ·  in shadows: {states(of_shadows)}" if of_shadows else ""
    devices = [
        f"{shown(each['name'])} of {shown(each['host'])}: {each['held_mb']} of {each['memory_mb']} MB held\n"
        for each in counts["devices"]
    ]
    return (
        f"studies: {counts['studies']}  ·  series: {counts['series']}, {counts['series_open']} still arriving"
        f"  ·  instances: {counts['instances']}\n"
        f"jobs: {states(counts['jobs'])}{shadows}\ndeliveries: {states(counts['deliveries'])}\n"
        f"announcements: {states(counts['announcements'])}\n"
        f"objects: {shown(objects['place'])}{away}\n" + "".join([*stranded, *paused, *pipelines, *devices])
    )


def _study(study: dict[str, Any]) -> Tree:
    tree = Tree(
        _line(
            f"study {study['StudyInstanceUID']}",
            ("accession", study["AccessionNumber"]),
            ("received", study["first_instance_at"]),
        )
    )
    for series in study["series"]:
        branch = tree.add(
            _line(
                f"series {series['SeriesInstanceUID']}",
                ("", series["Modality"]),
                ("instances", series["instance_count"]),
                ("", "still arriving" if series["completed_at"] is None else ""),
            )
        )
        for completion in series["completions"]:
            _completion(branch, completion)
        for job in series["jobs"]:
            _job(branch, job)
    return tree


def _completion(branch: Tree, completion: dict[str, Any]) -> None:
    routes = [route["route"] for route in completion["routes"] if route["matched"]]
    routed = (
        "waits for routing" if completion["routed_at"] is None else ", ".join(routes) or "no route matched"
    )
    branch.add(
        _line(
            f"complete ({completion['reason']})",
            ("", completion["note"]),
            ("generation", completion["generation"]),
            ("instances", completion["instance_count"]),
            ("at", completion["completed_at"]),
            ("routes:", routed),
        )
    )


def _job(branch: Tree, job: dict[str, Any]) -> None:
    node = branch.add(
        _line(
            f"job {job['id']}: {job['state']}",
            ("", job["pipeline"]),
            ("", job["pipeline_version"]),
            ("shadow of job", job["shadow_of"]),
            ("attempt", job["attempt"]),
            ("", ": ".join(filter(None, (job["reason_code"], job["reason"])))),
            ("since", job["updated_at"]),
            ("place", job["place"]),
            ("expected", job["expected_at"] or job["note"]),
        )
    )
    for result in job["results"]:
        leaf = node.add(_line(f"{result['role']} {result['SOPInstanceUID']}"))
        for delivery in result["deliveries"]:
            leaf.add(
                _line(
                    f"to {delivery['destination']}: {delivery['state']}",
                    ("attempt", delivery["attempt"]),
                    ("", delivery["reason"]),
                    ("since", delivery["updated_at"]),
                )
            )


def _line(head: str, *facts: tuple[str, object]) -> str:
    parts = [f"{name} {shown(value)}".strip() for name, value in facts if value not in (None, "")]
    return escape("  ·  ".join([head, *parts]))
