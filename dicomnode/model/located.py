"""A file that may have to be fetched before it can be opened."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path


class Located(PathLike[str]):
    """For who opens files and knows no store: `locate` is called when it is opened, and may raise."""

    def __init__(self, locate: Callable[[], Path]) -> None:
        self._locate = locate

    def __fspath__(self) -> str:
        return str(self._locate())
