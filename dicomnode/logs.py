"""Structured logs on standard error: ids and counts, never the value of a tag."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Literal

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
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(**always)
    # pydicom's warnings quote the values that they warn of.
    warnings.simplefilter("ignore")
