"""The progress that the user watches: one line a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class Steps:
    """Lines that are added as their step begins."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def step(self, what: str, total: int = 1) -> Iterator[Step]:
        """A line for the block; full when the block ends without an error."""
        task = self._progress.add_task(what, total=total)
        yield Step(self._progress, task)
        self._progress.update(task, completed=total)
        self._progress.stop_task(task)


class Step:
    """One line, whose bar can be moved."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def at(self, completed: int) -> None:
        """So many are done."""
        self._progress.update(self._task, completed=completed)

    def says(self, what: str) -> None:
        """The line's words are others now."""
        self._progress.update(self._task, description=what)


@contextmanager
def shown_steps(console: Console) -> Iterator[Steps]:
    """Show progress on the console for the block."""
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Steps(progress)
