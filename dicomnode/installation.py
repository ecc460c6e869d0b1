"""What a configuration points to: the database, the objects, the installed pipelines."""

from __future__ import annotations

from dataclasses import dataclass

from dicomnode.config import Config
from dicomnode.errors import ConfigError
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import check_rule
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Stores:
    """Where everything is kept."""

    database: Database
    objects: ObjectStore


def open_stores(config: Config) -> Stores:
    """The database and the objects of a configuration. The schema is not looked at. Raises ConfigError."""
    try:
        config.node.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"node.data: {config.node.data} cannot be used as a folder: {error.strerror}"
        raise ConfigError("settings", [problem]) from None
    free = config.node.minimum_free_mb * 1_000_000
    return Stores(Database(config.database_url), ObjectStore(config.node.data, free))


def open_registry(config: Config) -> Registry:
    """The installed pipelines, each manifest and each rule in it checked. Raises ConfigError."""
    return Registry.open(config.pipelines.folder, check_rule)
