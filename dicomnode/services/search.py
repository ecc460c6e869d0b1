"""QIDO-RS over the catalog, and over stored headers for what the catalog does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.dicomweb.qido import Found
from dicomnode.model.query import UNIQUE_KEYS, Level, Query
from dicomnode.store import find
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects
from dicomnode.store.retrieval import first_instance


class Searcher:
    """Answers searches; safe to call from several threads at once."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database, self._objects = database, objects

    def __call__(self, query: Query) -> Found:
        """At most `query.limit` entities, and whether there are more."""
        asked = query if query.limit is None else replace(query, limit=query.limit + 1)
        with self._database.read() as tx:
            rows = list(find.find(tx, asked))
        more = query.limit is not None and len(rows) > query.limit
        return Found(rows[: query.limit], more)

    def held(self, level: Level) -> frozenset[str]:
        """The keywords that the catalog can match and answer at a level."""
        return find.held_keys(level)

    def header(self, row: Mapping[str, Any], keywords: Sequence[str]) -> Dataset:
        """What the first stored instance of an entity that was found says; empty where none is here."""
        names = {key: row[key] for key in UNIQUE_KEYS.values() if key in row}
        with self._database.read() as tx:
            first = first_instance(tx, names)
        if first is None:
            return Dataset()
        return dcmread(
            self._objects.path(first.sha256), stop_before_pixels=True, specific_tags=list(keywords)
        )
