"""Signals between processes: a transaction that made work tells so when it commits.

On PostgreSQL by NOTIFY. On SQLite, whose processes share a machine, by touching a file that the others watch
(inotify). The rows are the only truth: who waits looks at them, and from time to time without a signal, too.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection

from dicomnode.model.topic import Topic

_CHANNEL = "dicomnode_"
_ANNOUNCED = "dicomnode.announced"
_IN_ATTRIB = 0x00000004
_IN_CREATE = 0x00000100
_EVENT = struct.Struct("iIII")
_EVENTS = 64 * 1024


class Listener(Protocol):
    """Hears what other processes, and this one, announce."""

    def hear(self, timeout_s: float) -> Collection[Topic]:
        """What was announced since the last call; waits for that, at most so long. Raises OSError."""

    def close(self) -> None:
        """Hear no more."""


def announce(tx: Connection, topic: Topic) -> None:
    """Tell of it when the transaction has committed, and not where it does not."""
    tx.info.setdefault(_ANNOUNCED, set()).add(topic)


def forget(tx: Connection) -> set[Topic]:
    """What was announced in this transaction; it will not be told then."""
    announced: set[Topic] = tx.info.pop(_ANNOUNCED, set())
    return announced


def notify(tx: Connection, topics: Collection[Topic]) -> None:
    """PostgreSQL tells of them once the transaction has committed."""
    for topic in sorted(topics):
        tx.exec_driver_sql(f"NOTIFY {_CHANNEL}{topic}")


def touch(folder: Path, topics: Collection[Topic]) -> None:
    """Who watches the folder hears of them. A signal that fails costs its hearers one slow look."""
    for topic in topics:
        try:
            os.utime(folder / topic)
        except FileNotFoundError:
            _create(folder / topic)
        except OSError:
            return


def _create(file: Path) -> None:
    try:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    except OSError:
        return


class FolderListener:
    """Watches a folder in which each topic is a file. Linux; raises OSError where that is not possible."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        libc = ctypes.CDLL(None, use_errno=True)
        self._watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if (
            self._watch < 0
            or libc.inotify_add_watch(self._watch, os.fsencode(folder), _IN_ATTRIB | _IN_CREATE) < 0
        ):
            raise OSError(ctypes.get_errno(), "inotify")

    def hear(self, timeout_s: float) -> Collection[Topic]:
        """See `Listener`."""
        if not select.select([self._watch], [], [], timeout_s)[0]:
            return ()
        data, names, at = os.read(self._watch, _EVENTS), set(), 0
        while at < len(data):
            length = _EVENT.unpack_from(data, at)[3]
            at += _EVENT.size + length
            names.add(os.fsdecode(data[at - length : at].rstrip(b"\0")))
        return {topic for topic in Topic if topic in names}

    def close(self) -> None:
        """See `Listener`."""
        os.close(self._watch)


class PostgresListener:
    """A connection of its own that listens to every topic. Raises OSError."""

    def __init__(self, url: URL) -> None:
        parts = url.set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            self._connection = psycopg.connect(parts, autocommit=True, connect_timeout=10)
            for topic in Topic:
                self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(_CHANNEL + topic)))
        except psycopg.Error as error:
            raise OSError("PostgreSQL cannot be listened to") from error

    def hear(self, timeout_s: float) -> Collection[Topic]:
        """See `Listener`."""
        try:
            heard = list(self._connection.notifies(timeout=timeout_s, stop_after=1))
        except psycopg.Error as error:
            raise OSError("PostgreSQL is gone") from error
        names = {notice.channel.removeprefix(_CHANNEL) for notice in heard}
        return {topic for topic in Topic if topic in names}

    def close(self) -> None:
        """See `Listener`."""
        self._connection.close()
