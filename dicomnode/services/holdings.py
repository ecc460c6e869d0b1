"""What WADO retrieves: the stored instances of a study or a series, or one, and where their bytes lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dicomnode.errors import Gone, NotFound
from dicomnode.model.instance import StoredInstance
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects
from dicomnode.store.retrieval import stored_instances, were_removed


class Holdings:
    """Safe to use from several threads at once."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database, self._objects = database, objects

    def instances(self, keys: Mapping[str, str]) -> Sequence[StoredInstance]:
        """Those that the UIDs name, by keyword, in the order in which they arrived.

        Raises Gone where retention has removed them, NotFound where there were none.
        """
        with self._database.read() as tx:
            found = stored_instances(tx, **keys)
            if not found and were_removed(tx, keys):
                raise Gone("instance", " ".join(keys.values()))
        if not found:
            raise NotFound("instance", " ".join(keys.values()))
        return found

    def locate(self, sha256: str) -> Path:
        """Where the object lies."""
        return self._objects.path(sha256)
