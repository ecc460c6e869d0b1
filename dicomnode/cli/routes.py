"""`dicomnode routes`: which rules there are, and what they make of a series."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
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
    print_table,
    shown,
)
from dicomnode.cli.pausing import add_pausing
from dicomnode.config import load_config
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.queue import PauseKind
from dicomnode.rules.rule import ConditionVerdict
from dicomnode.services.routing import Decision, RouteTable, series_of_folder

app = typer.Typer(help="Routes: which series go to which pipeline.", no_args_is_help=True)
add_pausing(app, PauseKind.ROUTE, lambda config: [route.name for route in config.route])

_MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]?[/]"}


@app.command("list")
def list_routes(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the routes in the order in which they are looked at."""
    routes = load_config(config).route
    if as_json:
        print_json([route.model_dump(mode="json") for route in routes])
        return
    print_table(
        "Routes",
        ("name", "when", "pipeline", "send to", "priority", "on match"),
        [(r.name, r.when, r.pipeline, ", ".join(r.send_to), r.priority, r.on_match) for r in routes],
    )


@app.command()
def explain(
    path: Annotated[Path, typer.Argument(exists=True, help="A DICOM file, or a folder of them.")],
    calling_ae: Annotated[str, typer.Option(help="As if this AE title had sent it.")] = "",
    called_ae: Annotated[str, typer.Option(help="As if this AE title had been called.")] = "",
    address: Annotated[str, typer.Option(help="As if it had come from this address.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Print, rule by rule, each condition with the value that decided it. Nothing is sent or run."""
    table = RouteTable(load_config(config), str(config))
    association = AssociationFacts("", calling_ae, called_ae, address)
    explained = [
        (SeriesInstanceUID, table.decide(facts))
        for SeriesInstanceUID, facts in series_of_folder(path, association).items()
    ]
    if as_json:
        print_json([_record(uid, decisions) for uid, decisions in explained])
        return
    out = console()
    for uid, decisions in explained:
        out.print(_tree(uid, decisions))


def _record(SeriesInstanceUID: str, decisions: list[Decision]) -> dict[str, Any]:
    return {
        "SeriesInstanceUID": SeriesInstanceUID,
        "routes": [
            {"route": decision.route.name, "when": decision.route.when, **asdict(decision.verdict)}
            for decision in decisions
        ],
    }


def _tree(SeriesInstanceUID: str, decisions: list[Decision]) -> Tree:
    tree = Tree(f"series {escape(shown(SeriesInstanceUID))}")
    for decision in decisions:
        matched = decision.verdict.matched
        goes = f"matches → {decision.route.pipeline}" if matched else "does not match"
        branch = tree.add(f"{_MARKS[matched]} route {escape(decision.route.name)}: {escape(goes)}")
        for condition in decision.verdict.conditions:
            branch.add(_condition(condition))
    return tree


def _condition(condition: ConditionVerdict) -> str:
    values = ", ".join(f"{name} = {_quoted(value)}" for name, value in condition.values.items())
    facts = "; ".join(part for part in (values, condition.note) if part)
    return f"{_MARKS[condition.outcome]} {escape(condition.source)}   [dim]{escape(facts)}[/]"


def _quoted(value: object) -> str:
    return f'"{shown(value)}"' if isinstance(value, str) else shown(value)
