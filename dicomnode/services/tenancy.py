"""A slot's share of its machine's memory: what it holds of it, and when its warm model has to go."""

from __future__ import annotations

from typing import Protocol

import structlog

from dicomnode.model.queue import Waiting
from dicomnode.model.room import Slot
from dicomnode.store import room
from dicomnode.store.database import Database, Transaction

log = structlog.get_logger()

LEFT_S = 0.15
"""So long a job is left to the slot that has its model; longer than a slot that is free takes to claim it."""


class WarmModel(Protocol):
    """What a slot keeps in memory between its runs."""

    @property
    def warm(self) -> str | None:
        """The digest of its bundle; None where there is none."""
        ...

    def cool(self) -> None:
        """End it."""
        ...


class Tenancy:
    """Of one slot; what it holds stands in the database, where the other slots of its machine see it."""

    def __init__(self, database: Database, slot: Slot, model: WarmModel) -> None:
        self.slot = slot
        self._database, self._model = database, model

    @property
    def warm(self) -> str | None:
        """The digest of the bundle whose model is kept warm."""
        return self._model.warm

    def is_over(self, tx: Transaction) -> bool:
        """True where another job needs the place of the warm model."""
        return room.is_to_leave(tx, self.slot.worker)

    def is_anothers(self, tx: Transaction, first: Waiting) -> bool:
        """True where a job came just now and another slot, which is free, has its model: it will take it."""
        fresh = first.digest != self._model.warm and first.waited_s < LEFT_S
        return fresh and room.is_kept_warm(tx, first.digest)

    def leave(self) -> None:
        """End the warm model."""
        log.info("model.leaves")
        self._model.cool()
        self._give_back()

    def make_way(self, pipeline_digest: str) -> None:
        """A job of that bundle was claimed: what another one holds is its place now."""
        if self._model.warm != pipeline_digest:
            self._model.cool()

    def after_a_run(self) -> None:
        """Where no model is left, nothing is held."""
        if self._model.warm is None:
            self._give_back()

    def _give_back(self) -> None:
        with self._database.begin() as tx:
            room.give_back(tx, self.slot.worker)
