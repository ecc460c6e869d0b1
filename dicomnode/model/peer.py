"""Another application entity on the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """Where an application entity listens, and how long to wait for it (s)."""

    ae_title: str
    host: str
    port: int
    connect_timeout_s: float = 10.0
    response_timeout_s: float = 60.0
