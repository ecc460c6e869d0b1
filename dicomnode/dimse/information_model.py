"""The Query/Retrieve information models: which SOP class asks in which of them (PS3.4 C.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from pynetdicom import sop_class

from dicomnode.model.query import Level


class Root(StrEnum):
    """Where a model begins, and, for the retired one, where it ends."""

    PATIENT = "patient"
    STUDY = "study"
    PATIENT_STUDY_ONLY = "patient/study only"


LEVELS: Mapping[Root, tuple[Level, ...]] = MappingProxyType(
    {
        Root.PATIENT: (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
        Root.STUDY: (Level.STUDY, Level.SERIES, Level.IMAGE),
        Root.PATIENT_STUDY_ONLY: (Level.PATIENT, Level.STUDY),
    }
)
"""The levels of each model, from its root down."""

_NAMES = {Root.PATIENT: "PatientRoot", Root.STUDY: "StudyRoot", Root.PATIENT_STUDY_ONLY: "PatientStudyOnly"}


def _classes(service: str) -> Mapping[str, Root]:
    return MappingProxyType(
        {
            str(getattr(sop_class, f"{name}QueryRetrieveInformationModel{service}")): root
            for root, name in _NAMES.items()
        }
    )


FIND, MOVE, GET = _classes("Find"), _classes("Move"), _classes("Get")
"""SOP class → the model that it asks in."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """How an identifier is to be read: the model, and what extended negotiation agreed on (PS3.4 C.5.1.1).

    `relational`: unique keys of the levels above may be absent. `combined`: a range of dates and one of times
    are one range of instants. `fuzzy`: names match by the beginnings of their words.
    """

    root: Root
    relational: bool = False
    combined: bool = False
    fuzzy: bool = False
