"""A peer that keeps to the protocol, mostly: associations, messages and endings, each bent now and then."""

from __future__ import annotations

import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from tests.hostile.datasets import DataSet
from tests.hostile.holding import lets_go, serves
from tests.hostile.node import HostileNode, running
from tests.hostile.peer import (
    P_DATA,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    associate_rq,
    command,
    echo_rq,
    pdu,
    pdv,
    store_rq,
    uid,
)

CLASSES = (
    VERIFICATION,
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelGet,
    StorageCommitmentPushModel,
    ModalityPerformedProcedureStep,
    InstanceAvailabilityNotification,
)
CONTEXTS = tuple(
    (2 * number + 1, str(abstract), (ExplicitVRLittleEndian, ImplicitVRLittleEndian))
    for number, abstract in enumerate(CLASSES)
)
FIELDS = (0x1, 0x10, 0x20, 0x21, 0x30, 0xFFF, 0x100, 0x110, 0x120, 0x130, 0x140, 0x150, 0x8001, 0x8100, 0x999)
ELEMENTS = (
    0x0002,
    0x0003,
    0x0100,
    0x0110,
    0x0120,
    0x0600,
    0x0700,
    0x0800,
    0x0900,
    0x1000,
    0x1001,
    0x1002,
    0x1008,
)
ROUND = 100
"""Associations between two looks at what the node holds."""


class Fuzzer:
    """One conversation after the other, all of them given by the seed."""

    def __init__(self, seed: int, port: int) -> None:
        self._random, self._port = random.Random(seed), port

    def converse(self) -> None:
        """One association, from its beginning to some end."""
        with suppress(OSError), RawPeer(self._port, limit_s=0.3) as peer:
            peer.say(self._bent(associate_rq(CONTEXTS), 0.2))
            peer.hear()
            for _ in range(self._random.randrange(6)):
                self._random.choice((self._message, self._store, self._echo, self._listen))(peer)
            self._end(peer)

    def _message(self, peer: RawPeer) -> None:
        number, abstract, _ = self._random.choice(CONTEXTS)
        elements = {
            **echo_rq(),
            0x0002: uid(abstract),
            0x0100: struct.pack("<H", self._random.choice(FIELDS)),
        }
        elements[0x0800] = struct.pack("<H", self._random.choice((0x0101, 0, 1)))
        for _ in range(self._random.randrange(4)):
            elements[self._random.choice(ELEMENTS)] = self._random.randbytes(
                self._random.choice((0, 1, 2, 4, 64))
            )
        peer.say(self._bent(pdu(P_DATA, pdv(number, 3, command(elements))), 0.1))
        for _ in range(self._random.randrange(3)):
            piece = self._bent(DataSet().encoded(), 0.5)
            peer.say(pdu(P_DATA, pdv(number, self._random.choice((0, 2)), piece)))

    def _store(self, peer: RawPeer) -> None:
        ds = DataSet()
        peer.say(pdu(P_DATA, pdv(3, 3, command(store_rq(ds.SOPInstanceUID)))))
        data = self._bent(ds.encoded(), 0.5)
        cut = self._random.randrange(len(data) + 1)
        peer.say(self._bent(pdu(P_DATA, pdv(3, 0, data[:cut]) + pdv(3, 2, data[cut:])), 0.1))
        peer.hear()

    def _echo(self, peer: RawPeer) -> None:
        peer.say(pdu(P_DATA, pdv(1, 3, command(echo_rq()))))
        peer.hear()

    def _listen(self, peer: RawPeer) -> None:
        peer.hear()

    def _end(self, peer: RawPeer) -> None:
        ends: tuple[Callable[[], object], ...] = (
            lambda: peer.say(pdu(RELEASE_RQ, bytes(4))),
            lambda: peer.say(pdu(0x07, bytes(4))),
            lambda: peer.say(self._random.randbytes(self._random.randrange(200))),
            lambda: peer.connection.shutdown(socket.SHUT_WR),
            lambda: None,
        )
        self._random.choice(ends)()
        if self._random.random() < 0.5:
            peer.hear()

    def _bent(self, data: bytes, likelihood: float) -> bytes:
        """The same, or with some bytes changed, left out, doubled or cut."""
        if self._random.random() >= likelihood:
            return data
        bent = bytearray(data)
        for _ in range(self._random.randrange(1, 5)):
            at = self._random.randrange(len(bent) + 1)
            kind = self._random.randrange(4)
            if kind == 0 and at < len(bent):
                bent[at] = self._random.choice((0, 1, 0x7F, 0xFF, self._random.randrange(256)))
            elif kind == 1:
                del bent[at : at + self._random.randrange(8)]
            elif kind == 2:
                bent[at:at] = bent[at : at + self._random.randrange(8)]
            elif self._random.random() < 0.2:
                del bent[at:]
        return bytes(bent)


def fuzz(node: HostileNode, seed: int, limit_s: float) -> int:
    """Converse for so long; fails where the node does not serve, holds something, or logs a traceback."""
    deadline, conversations = time.monotonic() + limit_s, 0
    while time.monotonic() < deadline:
        held = node.receiver.held()
        fuzzer = Fuzzer(seed + conversations, node.receiver.port)
        for _ in range(ROUND):
            fuzzer.converse()
            conversations += 1
        serves(node)
        lets_go(node.receiver, held)
        assert node.receiver.process.poll() is None
        assert "Traceback" not in node.log(), f"seed {seed}, before conversation {conversations}"
    return conversations


def main(limit_s: float, seed: int) -> None:
    """Run against a node of its own; the seed repeats what was said."""
    settings = "acse_timeout_s = 1.0\nnetwork_timeout_s = 1.5"
    with TemporaryDirectory() as folder, running(Path(folder), dimse=settings) as node:
        print(f"seed {seed}", flush=True)
        print(f"{fuzz(node, seed, limit_s)} conversations")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32))
