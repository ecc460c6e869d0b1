"""The roles that a node's processes have."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What one process of a node does."""

    RECEIVER = "receiver"
    WEB = "web"
    ENGINE = "engine"
    WORKER = "worker"
    RAY = "ray"
