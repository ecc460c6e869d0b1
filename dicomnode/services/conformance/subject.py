"""Whom a conformance statement is about: a node as it is composed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dicomnode.config import Config
from dicomnode.dicomweb.transactions import Transaction
from dicomnode.dimse.receiver import ReceiverSettings
from dicomnode.dimse.service import Service
from dicomnode.model.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Subject:
    """What the node is made of; `transactions` are those that are served, by method and path."""

    version: str
    config: Config
    receiver: ReceiverSettings
    services: tuple[Service, ...]
    transactions: Mapping[tuple[str, str], Transaction]
    manifests: tuple[Manifest, ...]
