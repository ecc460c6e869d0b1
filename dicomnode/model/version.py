"""The versions of a pipeline: which one is active, and which ones run beside it in its shadow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

FEW_COMPARISONS = 20
"""With fewer than so many series compared, an administrator is asked whether a version is to be active."""
_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Version:
    """One bundle: `version` is what its manifest says, `digest` what its files are."""

    pipeline: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Activation:
    """Since when a version has been the one whose results are delivered, and who said so."""

    version: Version
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Shadowing:
    """A version that runs beside the active one, on `percent` of the series, and who said so when."""

    version: Version
    percent: float
    actor: str
    at: datetime


def is_in_share(SeriesInstanceUID: str, percent: float) -> bool:
    """Whether a series is one of the `percent` of all that a shadow runs on.

    A function of the UID alone: the same series for each version, also when they come again, and those of a
    smaller share are among those of a larger one.
    """
    place = int.from_bytes(sha256(SeriesInstanceUID.encode()).digest()[:8]) % _STEPS
    return place < percent * _STEPS / 100
