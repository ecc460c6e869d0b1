"""What the demo says at its end: volumes, UIDs, seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from dicomnode.demo.journey import Delivered
from dicomnode.demo.measurements import Measurement


def print_measurements(console: Console, measured: Sequence[Measurement]) -> None:
    """A table of the measured values; volumes in ml."""
    console.print("\n[bold]Measured, as the report in the archive says")
    table = Table()
    table.add_column("what")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    for each in measured:
        value = f"{each.value:g} {each.unit}" if each.volume_ml is None else f"{each.volume_ml:.1f} ml"
        table.add_row(each.finding, each.quantity, value)
    console.print(table)


def print_archived(console: Console, results: Sequence[Delivered], StudyInstanceUID: str) -> None:
    """The UIDs of what the archive lists."""
    console.print("\n[bold]In the archive, as its answer to C-FIND says")
    table = Table(show_header=False)
    table.add_column("level", no_wrap=True)
    table.add_column("UID", overflow="fold")
    table.add_row("Study", StudyInstanceUID)
    for result in results:
        table.add_row(f"{result.role} series", result.SeriesInstanceUID)
        table.add_row(f"{result.role} instance", result.SOPInstanceUID)
    console.print(table)


def print_stages(console: Console, stages: Iterable[tuple[str, float]]) -> None:
    """The seconds of each stage, and their sum."""
    console.print("\n[bold]Seconds by stage")
    table = Table()
    table.add_column("stage")
    table.add_column("s", justify="right")
    total = 0.0
    for name, seconds in stages:
        table.add_row(name, f"{seconds:.2f}")
        total += seconds
    table.add_section()
    table.add_row("first instance to last confirmation", f"{total:.2f}")
    console.print(table)


def volumes_by_segment(measured: Sequence[Measurement]) -> Mapping[int, float]:
    """The first volume (ml) of each segment number."""
    volumes: dict[int, float] = {}
    for each in measured:
        if each.segment_number is not None and each.volume_ml is not None:
            volumes.setdefault(each.segment_number, each.volume_ml)
    return volumes
