"""What can be read over HTTP: QIDO-RS, WADO-RS and WADO-URI over the catalog and the objects."""

from __future__ import annotations

from starlette.routing import BaseRoute

from dicomnode.dicomweb import bulk_data, pixels, qido, rendered, wado, wado_uri
from dicomnode.services.holdings import Holdings
from dicomnode.services.search import Searcher
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects


def reading_routes(database: Database, objects: Objects) -> list[BaseRoute]:
    """All routes that read and change nothing."""
    searcher, holdings = Searcher(database, objects), Holdings(database, objects)
    services = (bulk_data, pixels, rendered, wado, wado_uri)
    return [
        *qido.routes(searcher, searcher.header, searcher.held),
        *(route for each in services for route in each.routes(holdings.instances, holdings.locate)),
    ]
