"""C-MOVE and C-GET over the catalog: identifiers in, stored instances out."""

from __future__ import annotations

from pydicom import Dataset

from dicomnode.dimse.information_model import Negotiated
from dicomnode.dimse.matching import parse_retrieve_identifier
from dicomnode.model.result import OutgoingInstance
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects
from dicomnode.store.retrieval import stored_instances


class Retriever:
    """Says which stored files a retrieval means; reads none of them."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database, self._objects = database, objects

    def __call__(self, identifier: Dataset, negotiated: Negotiated) -> list[OutgoingInstance]:
        """In the order in which they arrived; none is no error (PS3.4 C.4.2.3.1). Raises QueryRefused."""
        keys = parse_retrieve_identifier(identifier, negotiated)
        with self._database.read() as tx:
            found = stored_instances(tx, **keys)
        return [
            OutgoingInstance(
                instance.SOPClassUID,
                instance.SOPInstanceUID,
                instance.TransferSyntaxUID,
                self._objects.located(instance.sha256),
            )
            for instance in found
        ]
