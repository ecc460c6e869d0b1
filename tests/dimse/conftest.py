"""A receiver that remembers what it took in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from dicomnode.dimse.find import find as find_service
from dicomnode.dimse.information_model import Negotiated
from dicomnode.dimse.receiver import Receiver
from dicomnode.dimse.service import Service
from dicomnode.dimse.storage import storage
from dicomnode.dimse.verification import verification
from dicomnode.model.instance import AssociationFacts, Received
from tests.dimse.nodes import SETTINGS, Node, StartNode


@pytest.fixture
def start_node() -> Iterator[StartNode]:
    """Start receivers; `more` services or others `instead`, and settings by keyword."""
    started: list[Receiver] = []

    def start(
        on_instance: Callable[[Received], object] | None = None,
        on_find: Callable[[Dataset], Iterable[Dataset]] | None = None,
        more: Iterable[Service] = (),
        instead: Iterable[Service] = (),
        **settings: object,
    ) -> Node:
        lock = threading.Lock()

        def keep(received: Received) -> None:
            if on_instance is not None:
                on_instance(received)
            with lock:
                node.received.append(received)

        def find(identifier: Dataset, _: Negotiated) -> Iterable[Dataset]:
            node.queries.append(identifier)
            return on_find(identifier) if on_find else ()

        associations: list[AssociationFacts] = []
        services = list(instead) or [verification(), storage(keep), find_service(find), *more]
        receiver = Receiver(replace(SETTINGS, **settings), services, associations.append)
        node = Node(receiver, associations=associations)
        receiver.start()
        started.append(receiver)
        return node

    yield start
    for receiver in started:
        receiver.stop(limit_s=0.5)
