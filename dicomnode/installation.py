"""What a configuration points to: the database, the objects, the installed pipelines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicomnode.config import OBJECTS_SECRET, Config, ObjectsSection
from dicomnode.errors import ConfigError
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import check_rule
from dicomnode.store.bucket import Bucket, BucketSettings
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects
from dicomnode.store.objects import ObjectStore
from dicomnode.store.s3_objects import S3Objects


@dataclass(frozen=True, slots=True)
class Stores:
    """Where everything is kept."""

    database: Database
    objects: Objects


def open_stores(config: Config) -> Stores:
    """The database and the objects of a configuration. The schema is not looked at. Raises ConfigError."""
    objects = open_objects(config)
    with _named_by(config.file):
        return Stores(Database(config.database_url), objects)


def open_objects(config: Config) -> Objects:
    """The objects of a configuration, for whoever has no business with the database. Raises ConfigError."""
    try:
        config.node.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"node.data: {config.node.data} cannot be used as a folder: {error.strerror}"
        raise ConfigError(config.file, [problem]) from None
    data, free = config.node.data, config.node.minimum_free_mb * 1_000_000
    if not config.objects.url:
        return ObjectStore(data, free)
    with _named_by(config.file):
        bucket = Bucket(bucket_settings(config.objects))
    return S3Objects(data, bucket, int(config.objects.copies_gb * 1e9), free)


@contextmanager
def _named_by(file: Path) -> Iterator[None]:
    """What is given settings, and not their file, names their keys alone."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(file, error.problems) from None


def bucket_settings(section: ObjectsSection, environment: Mapping[str, str] = os.environ) -> BucketSettings:
    """`[objects]` as the bucket takes it, with its secret as it is now. Raises ConfigError."""
    secret = environment.get(OBJECTS_SECRET, "")
    if section.secret_file:
        secret = _text_of("secret_file", section.secret_file).strip()
    if section.access_key and not secret:
        raise ConfigError("settings", [f"objects.access_key: {OBJECTS_SECRET} is not set"])
    name, _, prefix = section.url.removeprefix("s3://").partition("/")
    return BucketSettings(
        name,
        prefix,
        section.endpoint,
        section.region,
        section.access_key,
        secret,
        _text_of("ca_file", section.ca_file) if section.ca_file else "",
        section.path_style,
        section.timeout_s,
    )


def _text_of(key: str, file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("settings", [f"objects.{key}: cannot be read: {type(error).__name__}"]) from None


def open_registry(config: Config) -> Registry:
    """The installed pipelines, each manifest and each rule in it checked. Raises ConfigError."""
    return Registry.open(config.pipelines.folder, check_rule)
