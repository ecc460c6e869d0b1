"""The edge of an association: whatever is raised below becomes a status, and is recorded here."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from dicomnode.dimse.status import PROCESSING_FAILURE, SUCCESS, status_of
from dicomnode.errors import DicomnodeError
from dicomnode.model.instance import AssociationFacts

log = structlog.get_logger()

Answer = TypeVar("Answer")


def attempt(message: str, facts: AssociationFacts, call: Callable[[], Answer]) -> tuple[int, Answer | None]:
    """Success and what `call` returns, or the status of what it raised and None; the latter is logged."""
    try:
        return SUCCESS, call()
    except Exception as error:  # noqa: BLE001  the one edge
        return _failed(message, facts, error), None


def refused(message: str, facts: AssociationFacts, status: int, reason: str) -> int:
    """Record a status that is no success, and return it. `reason` holds no value of the request."""
    log.warning(message, association=facts.key, status=f"{status:04X}", reason=reason)
    return status


def _failed(message: str, facts: AssociationFacts, error: Exception) -> int:
    if isinstance(error, DicomnodeError):
        return refused(message, facts, status_of(error), type(error).__name__)
    # A traceback's text could hold a tag value; its place cannot.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return refused(message, facts, PROCESSING_FAILURE, f"{type(error).__name__} at {where}")
