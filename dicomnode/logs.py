"""Structured logs on standard error: ids and counts, never the value of a tag."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import suppress
from typing import Literal, TextIO, cast

import structlog


def configure_logs(level: str, form: Literal["json", "console"], **always: str) -> None:
    """Send one line an event to standard error; `always` is bound to each of them."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # One write a line: several processes write to the same place.
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Forgiving(sys.stderr))),
    )
    structlog.contextvars.bind_contextvars(**always)
    # pydicom's warnings quote the values that they warn of.
    warnings.simplefilter("ignore")


class _Forgiving:
    """A line that cannot be written is lost, and nothing with it: the disk that logs go to may be full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()
