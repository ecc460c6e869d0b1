"""Each completion is routed once, and one that cannot be read stops nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from dicomnode.config import Config
from dicomnode.model.instance import AssociationFacts, Received
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import check_rule
from dicomnode.services.completion import order_completion
from dicomnode.services.ingest import Ingest
from dicomnode.services.routing import RouteTable, RoutingService
from dicomnode.store import jobs
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from dicomnode.store.schema import instance, routing
from tests.harness.heads import small_series
from tests.harness.schema import upgraded
from tests.harness.toy_pipeline import write_toy_pipeline

ROUTES = [
    {"name": "mr", "when": 'series.modality == "MR"', "pipeline": "toy", "send_to": ["a"], "priority": "low"},
    {"name": "ct", "when": 'series.modality == "CT"', "pipeline": "toy"},
    {"name": "all", "when": "series.instances > 0", "pipeline": "toy", "send_to": ["b"], "priority": "stat"},
]
DESTINATIONS = [{"name": name, "dimse": {"ae_title": "A", "host": "h", "port": 1}} for name in "ab"]


@pytest.fixture
def node(tmp_path):
    database, objects = upgraded(f"sqlite:///{tmp_path / 'd.sqlite3'}"), ObjectStore(tmp_path, 0)
    write_toy_pipeline(tmp_path / "pipelines")
    config = Config.model_validate({"destination": DESTINATIONS, "route": ROUTES})
    registry = Registry.open(tmp_path / "pipelines", check_rule)
    return database, objects, RoutingService(database, objects, RouteTable(config), registry)


def receive(database: Database, objects: ObjectStore) -> str:
    """Ingest one complete series of one instance; its SeriesInstanceUID."""
    from tests.services.test_ingest import received

    (ds,) = small_series(1)
    came: Received = replace(received(ds), association=AssociationFacts("k", "CT1", "NODE", "127.0.0.1"))
    Ingest(database, objects).store(came)
    order_completion(database, ds.SeriesInstanceUID)
    return str(ds.SeriesInstanceUID)


def rows(database: Database) -> list[tuple]:
    with database.read() as tx:
        return [tuple(row) for row in tx.execute(select(routing.c.route, routing.c.matched, routing.c.note))]


def test_routes_to_the_same_pipeline_share_a_job_with_all_destinations_and_the_higher_priority(node):
    database, objects, service = node
    receive(database, objects)
    assert (service.tick(), service.tick()) == (1, 0)
    with database.read() as tx:
        (job,) = jobs.find(tx)
    assert (job.send_to, job.priority, job.route) == (("a", "b"), "stat", "mr")
    assert [(route, matched) for route, matched, _ in rows(database)] == [
        ("mr", True),
        ("ct", False),
        ("all", True),
    ]


def test_a_series_whose_object_is_lost_is_told_so_and_the_next_one_is_routed(node):
    database, objects, service = node
    receive(database, objects)
    with database.read() as tx:
        objects.remove(tx.execute(select(instance.c.sha256)).scalar_one())
    receive(database, objects)
    assert service.tick() == 2
    assert rows(database)[0] == ("mr", False, "the series cannot be read: FileNotFoundError")
    with database.read() as tx:
        assert len(jobs.find(tx)) == 1
