"""C-FIND over the catalog: identifiers in, identifiers out."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

from dicomnode.dimse.information_model import Negotiated
from dicomnode.dimse.matching import parse_identifier, response_identifier
from dicomnode.store import find
from dicomnode.store.database import Database


class Finder:
    """Answers queries; `ae_title` is where the answers say that instances can be retrieved."""

    def __init__(self, database: Database, ae_title: str) -> None:
        self._database, self._ae_title = database, ae_title

    def __call__(self, identifier: Dataset, negotiated: Negotiated) -> Iterator[Dataset]:
        """One identifier for each entity that matches. Raises QueryRefused."""
        query = parse_identifier(identifier, negotiated)
        with self._database.read() as tx:
            for row in find.find(tx, query):
                yield response_identifier(query, row, self._ae_title)

    def holds(self, identifier: Dataset, negotiated: Negotiated) -> bool:
        """True where the catalog knows every key of the identifier. Raises QueryRefused."""
        query = parse_identifier(identifier, negotiated)
        return find.held_keys(query.level).issuperset(query.return_keys)
