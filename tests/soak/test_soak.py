"""Under mixed traffic, memory, file descriptors and threads stay flat, and what was acknowledged is there.

SOAK_ROUNDS says for how long: each round is 16 associations at once. `make soak` takes many.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicomnode.store.objects import SYNC_THREADS
from tests.harness.nodes import wait_for
from tests.hostile.holding import serves
from tests.hostile.node import HostileNode, running
from tests.soak.traffic import scan

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "4"))
ASSOCIATIONS = 16
MEMORY_MB = 40.0
"""What memory may grow by from the second round to the last: allocators keep what they once had."""


@dataclass(frozen=True)
class Use:
    """What the receiver uses when nobody is there."""

    memory_mb: float
    descriptors: int
    threads: int


def use(node: HostileNode) -> Use:
    folder = Path(f"/proc/{node.receiver.process.pid}")
    lines = (folder / "status").read_text().splitlines()
    memory_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return Use(memory_kb / 1000, len(list((folder / "fd").iterdir())), node.receiver.threads())


@pytest.mark.timeout(60 + 30 * ROUNDS)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="not run here: Linux's /proc")
def test_a_day_of_traffic_leaves_nothing_behind_but_what_was_acknowledged(tmp_path):
    outcomes: dict[str, int | str] = {}
    with running(tmp_path, dimse="acse_timeout_s = 5.0\nnetwork_timeout_s = 20.0") as node:
        idle = node.receiver.held()
        uses = []
        with ThreadPoolExecutor(ASSOCIATIONS) as scanners:
            for number in range(ROUNDS):
                seeds = range(number * ASSOCIATIONS, (number + 1) * ASSOCIATIONS)
                for found in scanners.map(lambda seed: scan(node.receiver.port, seed), seeds):
                    outcomes.update(found)
                wait_for("an idle receiver", lambda: node.receiver.held() == idle, 30)
                uses.append(use(node))
        serves(node)
        stored, left = node.stored(), node.temporaries()
    acknowledged = {uid for uid, outcome in outcomes.items() if outcome == 0x0000}
    assert set(outcomes.values()) <= {0x0000, 0xC000, "cut"}
    assert stored == acknowledged
    assert left == []
    assert len(acknowledged) > 3 * ASSOCIATIONS
    first, last = uses[1], uses[-1]
    assert last.descriptors <= max(each.descriptors for each in uses[:3])
    # Those that sync are started when they are first needed, which may be late.
    assert last.threads <= max(each.threads for each in uses[:3]) + SYNC_THREADS
    assert last.memory_mb - first.memory_mb < MEMORY_MB
