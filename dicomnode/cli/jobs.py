"""`dicomnode jobs`: what is queued, what runs, what failed and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dicomnode.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    actor,
    expected,
    print_json,
    print_table,
    shown,
    stores_of,
)
from dicomnode.config import load_config
from dicomnode.installation import open_registry
from dicomnode.model.job import Job, JobState
from dicomnode.model.queue import Place
from dicomnode.services import administration

app = typer.Typer(help="Jobs: one pipeline on one series.", no_args_is_help=True)

_COLUMNS = (
    *(
        "ID",
        "state",
        "priority",
        "place",
        "expected",
        "pipeline",
        "version",
        "gen.",
        "attempt",
        "reason",
        "updated",
    ),
    "SeriesInstanceUID",
)
JobId = Annotated[int, typer.Argument(metavar="ID", help="The job's number, from `jobs list`.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the job.")]


@app.command("list")
def list_jobs(
    state: Annotated[list[JobState] | None, typer.Option(help="Only these states.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first; those that wait with their place and when they can be expected."""
    database = stores_of(config).database
    found = administration.find_jobs(database, tuple(state or ()), limit)
    places = administration.describe_queue(database, load_config(config).limits)
    if as_json:
        print_json([{**asdict(job), **_standing(places.get(job.id))} for job in found])
        return
    print_table(
        "Jobs",
        _COLUMNS,
        [_row(job, places.get(job.id)) for job in found],
    )


def _standing(place: Place | None) -> dict[str, object]:
    return asdict(place or Place(None, None, ""))


def _row(job: Job, place: Place | None) -> tuple[object, ...]:
    reason = ": ".join(part for part in (job.reason_code, job.reason) if part)
    return (
        job.id,
        job.state,
        job.priority,
        None if place is None else place.place,
        expected(place),
        job.pipeline if job.shadow_of is None else f"{job.pipeline}, shadow of {job.shadow_of}",
        job.pipeline_version,
        job.generation,
        job.attempt,
        reason,
        job.updated_at,
        job.SeriesInstanceUID,
    )


@app.command()
def show(job_id: JobId, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Everything about one job: its events, its runs with the seconds of each stage, its results."""
    database = stores_of(config).database
    job, history = administration.describe_job(database, job_id)
    place = administration.describe_queue(database, load_config(config).limits).get(job_id)
    if as_json:
        print_json({**asdict(job), **_standing(place), **history})
        return
    facts = {**asdict(job), "place": place.place if place else None, "expected": expected(place)}
    print_table(
        f"Job {job.id}", ("", ""), [(key, value) for key, value in facts.items() if value not in (None, "")]
    )
    print_table(
        "Events",
        ("at", "event", "state", "fence", "by", "detail"),
        [(e["at"], e["event"], e["state"], e["fence"], e["actor"], e["detail"]) for e in history["events"]],
    )
    print_table(
        "Runs",
        ("started", "ended", "worker", "outcome", "seconds"),
        [
            (r["started_at"], r["ended_at"], r["worker"], r["outcome"], _seconds(r["timings"]))
            for r in history["runs"]
        ],
    )
    if history["priors"]:
        print_table(
            "Priors",
            ("name", "state", "", "StudyDate", "SeriesInstanceUID"),
            [
                (p["name"], p["state"], p["note"], p["StudyDate"], p["SeriesInstanceUID"])
                for p in history["priors"]
            ],
        )
    print_table(
        "Results",
        ("role", "SOPInstanceUID", "bytes", "deliveries"),
        [
            (
                r["role"],
                r["SOPInstanceUID"],
                r["size"],
                ", ".join(f"{d['destination']}: {d['state']}" for d in r["deliveries"]),
            )
            for r in history["results"]
        ],
    )


def _seconds(timings: dict[str, float]) -> str:
    return ", ".join(f"{shown(stage)} {seconds:.2f}" for stage, seconds in timings.items())


@app.command()
def retry(job_id: JobId, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Start a dead, refused or cancelled job again, with the pipeline as it is installed now."""
    registry = open_registry(load_config(config))
    administration.retry_job(stores_of(config).database, registry, job_id, actor())
    typer.echo(f"job {job_id} is ready")


@app.command()
def rerun(job_id: JobId, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Do the work of a settled job once more, as a new generation that replaces its results."""
    registry = open_registry(load_config(config))
    again = administration.rerun_job(stores_of(config).database, registry, job_id, actor())
    typer.echo(f"job {again} does the work of job {job_id} once more")


@app.command()
def hold(
    job_id: JobId, reason: Reason = "held by the administrator", config: ConfigOption = DEFAULT_CONFIG
) -> None:
    """Keep a job from running until it is released; one that runs is cut."""
    administration.hold_job(stores_of(config).database, job_id, reason, actor())
    typer.echo(f"job {job_id} is held")


@app.command()
def release(job_id: JobId, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let a held job go on."""
    administration.release_job(stores_of(config).database, job_id, actor())
    typer.echo(f"job {job_id} is ready")


@app.command()
def cancel(
    job_id: JobId, reason: Reason = "cancelled by the administrator", config: ConfigOption = DEFAULT_CONFIG
) -> None:
    """End a job, also while it runs."""
    administration.cancel_job(stores_of(config).database, job_id, reason, actor())
    typer.echo(f"job {job_id} is cancelled")
