"""What a node must not hold once a peer is gone, and that it goes on."""

from __future__ import annotations

import httpx

from tests.harness.nodes import wait_for
from tests.hostile.node import Held, HostileNode, RoleProcess
from tests.hostile.peer import ECHO_CONTEXT, RawPeer, echo_rq

THREADS = 32
"""Those of the pools, and a few: each association that was not let go would add two to them."""


def lets_go(process: RoleProcess, before: Held) -> None:
    """Wait until the process holds no more than before; its pools of threads are bounded."""

    def is_less() -> bool:
        now = process.held()
        return now.sockets <= before.sockets and now.files <= before.files and process.threads() <= THREADS

    wait_for(f"no more than {before}, and {THREADS} threads", is_less, 15)


def serves(node: HostileNode) -> None:
    """The next request of both kinds is answered."""
    with RawPeer(node.receiver.port) as peer:
        peer.associate().send(ECHO_CONTEXT, echo_rq())
        assert peer.status() == 0x0000
        peer.release()
    assert httpx.get(f"{node.url}/studies?limit=1", timeout=15).status_code in (200, 204)
