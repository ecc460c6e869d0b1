"""One bucket of an S3 store: put if absent, get, range, head, delete, list, each within a time limit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from dicomnode.errors import ConfigError, NotFound, ObjectsAway

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ClientConfig, S3Config

PART = 16 << 20
"""Bytes of one request at most: of larger objects no more than a few parts are in memory."""
_PARTS_AT_ONCE = 4
_RETRIES = 3
_PAGE = 1000
"""Keys that S3 lists in one answer."""
_STATUS = re.compile(r"status code: (\d{3})")


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where the bucket is, and as whom it is used; `ca` is a PEM text, empty: the authorities of the machine.

    Without `access_key`, credentials are found as AWS's own programs find them. `timeout_s` is how long one
    request may take, and how long it is tried again.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    secret: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)
    path_style: bool = True
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Head:
    """What the store says of an object; `age_s` in seconds, by its clock and ours."""

    size: int
    age_s: float


class Bucket:
    """Keys are texts without a beginning slash. Safe to use from several threads at once.

    Every call raises ObjectsAway where the store does not answer, or refuses. The first one starts threads:
    a process that has used a bucket must not fork.
    """

    def __init__(self, settings: BucketSettings) -> None:
        self._settings = settings

    @property
    def place_name(self) -> str:
        """The bucket and its endpoint."""
        settings = self._settings
        place = "/".join(filter(None, (f"s3://{settings.name}", settings.prefix)))
        return f"{place} at {settings.endpoint}" if settings.endpoint else f"{place} in {settings.region}"

    @cached_property
    def _store(self) -> S3Store:
        settings = self._settings
        limit = timedelta(seconds=settings.timeout_s)
        config: S3Config = {
            "region": settings.region,
            "virtual_hosted_style_request": not settings.path_style,
        }
        if settings.endpoint:
            config["endpoint"] = settings.endpoint
        if settings.access_key:
            config["access_key_id"], config["secret_access_key"] = settings.access_key, settings.secret
        options: ClientConfig = {
            "allow_http": settings.endpoint.startswith("http://"),
            "connect_timeout": limit / 2,
            "timeout": limit,
        }
        if settings.ca:
            options["root_certificate"] = settings.ca
        try:
            return S3Store(
                settings.name,
                prefix=settings.prefix or None,
                config=config,
                client_options=options,
                retry_config={"max_retries": _RETRIES, "retry_timeout": limit},
            )
        except (BaseError, ValueError) as error:
            problem = f"objects: no S3 client can be made of url, endpoint, region, ca_file: {_brief(error)}"
            raise ConfigError("settings", [problem]) from None

    def put(self, key: str, file: Path, *, replace: bool = False) -> bool:
        """Put a file's bytes there; False where something was there already, and was left as it is.

        S3 has checked each request's bytes by their SHA-256, which is part of the signature.
        """
        size = file.stat().st_size
        with _answered("put"):
            if size > PART:
                return self._put_parts(key, file, size, replace=replace)
            try:
                mode: PutMode = "overwrite" if replace else "create"
                obstore.put(self._store, key, file.read_bytes(), mode=mode, use_multipart=False)
            except AlreadyExistsError:
                return False
            except FileNotFoundError:
                raise ObjectsAway("put", "there is no such bucket") from None
        return True

    def _put_parts(self, key: str, file: Path, size: int, *, replace: bool) -> bool:
        """S3 has no put if absent in parts: whoever asks at the same time brings the same bytes."""
        found = self.head(key)
        if found is not None and found.size == size and not replace:
            return False
        obstore.put(
            self._store, key, file, use_multipart=True, chunk_size=PART, max_concurrency=_PARTS_AT_ONCE
        )
        after = self.head(key)
        if after is None or after.size != size:
            raise ObjectsAway("put", "the parts did not become the object")
        return True

    def get(self, key: str, write: Callable[[memoryview], object]) -> None:
        """Call `write` with the object's bytes, part by part. Raises NotFound."""
        with _answered("get"):
            try:
                found = obstore.get(self._store, key)
                size = found.meta["size"]
                if size <= PART:
                    write(memoryview(found.bytes()))
                    return
                for start in range(0, size, PART):
                    write(self.range(key, start, min(PART, size - start)))
            except FileNotFoundError:
                raise NotFound("object", key) from None

    def range(self, key: str, start: int, length: int) -> memoryview:
        """`length` bytes of the object from `start` on. Raises NotFound."""
        with _answered("get"):
            try:
                return memoryview(obstore.get_range(self._store, key, start=start, length=length))
            except FileNotFoundError:
                raise NotFound("object", key) from None

    def head(self, key: str) -> Head | None:
        """What is known of an object; None where there is none."""
        with _answered("head"):
            try:
                meta = obstore.head(self._store, key)
            except FileNotFoundError:
                return None
        return Head(meta["size"], _age_s(meta["last_modified"]))

    def delete(self, key: str) -> None:
        """Take an object away; it may be gone already."""
        with _answered("delete"):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    def list(self, after: str = "") -> Iterator[tuple[str, Head]]:
        """The keys that come after that one, in the order of their names, and what is known of each."""
        with _answered("list"):
            for page in obstore.list(self._store, offset=after or None, chunk_size=_PAGE):
                for meta in page:
                    yield meta["path"], Head(meta["size"], _age_s(meta["last_modified"]))


def _age_s(at: datetime) -> float:
    return time.time() - at.astimezone(UTC).timestamp()


@contextmanager
def _answered(what: str) -> Iterator[None]:
    """Its errors say what was sent, and to whom: of that, only the status goes on."""
    try:
        yield
    except BaseError as error:
        raise ObjectsAway(what, _brief(error)) from None


def _brief(error: Exception) -> str:
    status = _STATUS.search(str(error))
    if status is not None:
        return f"HTTP status {status[1]}"
    return "no answer" if "HTTP error" in str(error) else type(error).__name__
