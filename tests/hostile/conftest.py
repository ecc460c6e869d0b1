"""One node for all cases of a module; after each it serves the next request and holds nothing of the case."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.hostile.holding import lets_go, serves
from tests.hostile.node import MAXIMUM_MB, HostileNode, running

MEMORY_MB = 60
"""What a case may cost: more than a PDU and a block of a body, less than what a bad length claims."""


@pytest.fixture(scope="module")
def running_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileNode]:
    """Deadlines are short, so that a test can wait for them."""
    if not sys.platform.startswith("linux"):
        pytest.skip("not run here: Linux's /proc")
    settings = {
        "dimse": "acse_timeout_s = 1.0\nnetwork_timeout_s = 1.5\nmaximum_associations = 8",
        "web": "body_timeout_s = 1.0",
        "more": f"[ingest]\nmaximum_instance_mb = {MAXIMUM_MB}\nmaximum_elements = 100000",
    }
    with running(tmp_path_factory.mktemp("node"), **settings) as node:
        serves(node)
        yield node


@pytest.fixture
def node(running_node: HostileNode) -> Iterator[HostileNode]:
    """The node before a case; after it, nothing of the case is left."""
    processes = (running_node.receiver, running_node.web)
    before = [(process.held(), process.memory_mb()) for process in processes]
    yield running_node
    serves(running_node)
    for process, (held, memory_mb) in zip(processes, before, strict=True):
        lets_go(process, held)
        assert process.memory_mb() - memory_mb < MEMORY_MB
    assert running_node.temporaries() == []
