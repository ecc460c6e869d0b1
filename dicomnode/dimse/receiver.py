"""The service class provider: Verification, Storage and Study Root C-FIND (PS3.4 A, B, C; PS3.7 9.1)."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from socketserver import BaseServer
from typing import TypeVar
from uuid import uuid4

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from dicomnode.dimse.presentation import VERIFICATION, supported_contexts
from dicomnode.dimse.pynetdicom_settings import configure_pynetdicom
from dicomnode.dimse.sockets import prepare_socket
from dicomnode.dimse.status import (
    CANCELLED,
    PENDING,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    status_of,
)
from dicomnode.errors import DicomnodeError, MissingUID, NotDicom, QueryNotUnderstood
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.instance import AssociationFacts, Received
from dicomnode.model.uid import IMPLEMENTATION_CLASS_UID

__all__ = ["AcceptRule", "Receiver", "ReceiverSettings", "configure_pynetdicom"]

log = structlog.get_logger()

Answer = TypeVar("Answer")

ABORT_LIMIT_S = 2.0
"""How long a stop waits for an abort: a peer that stalls in the middle of a PDU holds it up."""

Rejection = tuple[int, int, int]
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
CALLING_NOT_RECOGNIZED: Rejection = (1, 1, 3)
CALLED_NOT_RECOGNIZED: Rejection = (1, 1, 7)
TEMPORARY_CONGESTION: Rejection = (2, 3, 1)
LOCAL_LIMIT_EXCEEDED: Rejection = (2, 3, 2)


@dataclass(frozen=True, slots=True)
class AcceptRule:
    """Who may call: an AE title from an address; `*` is any AE title."""

    ae_title: str
    network: IPv4Network | IPv6Network

    def admits(self, ae_title: str, address: IPv4Address | IPv6Address) -> bool:
        """True where both the AE title and the address suit."""
        return self.ae_title in ("*", ae_title) and address in self.network


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """Where to listen, whom to accept, and how long to wait (s).

    `called_ae_titles` are further names that the node answers to. `maximum_pdu` 0 is no limit (PS3.8 D.1).
    """

    ae_title: str
    address: str
    port: int
    accept: tuple[AcceptRule, ...]
    maximum_associations: int = 32
    maximum_pdu: int = 0
    network_timeout_s: float = 60.0
    acse_timeout_s: float = 30.0
    dimse_timeout_s: float = 60.0
    called_ae_titles: tuple[str, ...] = ()


class _Server(ThreadedAssociationServer):  # type: ignore[misc]
    request_queue_size = 128

    def shutdown(self) -> None:
        BaseServer.shutdown(self)
        self.server_close()


class Receiver:
    """Listens until it is stopped. `on_instance` and `on_find` are called in the association's own thread.

    When `on_instance` returns, the instance is durable and 0x0000 is answered; a DicomnodeError is answered
    with its status. What `on_find` yields are the identifiers of the pending responses.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        on_instance: Callable[[Received], object],
        on_find: Callable[[Dataset], Iterable[Dataset]],
        on_association: Callable[[AssociationFacts], None] | None = None,
    ) -> None:
        self._settings = settings
        self._on_instance, self._on_find, self._on_association = on_instance, on_find, on_association
        self._lock = threading.Lock()
        self._associations: dict[Association, AssociationFacts] = {}
        self._stopping = False
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, also where the settings say 0."""
        if self._server is None:
            raise RuntimeError("the receiver has not been started")
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen, and return. Raises OSError where the address cannot be had."""
        configure_pynetdicom()
        settings = self._settings
        ae = AE(settings.ae_title)
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = "DICOMNODE"
        ae.maximum_pdu_size = settings.maximum_pdu
        ae.network_timeout = settings.network_timeout_s
        ae.acse_timeout = settings.acse_timeout_s
        ae.dimse_timeout = settings.dimse_timeout_s
        # Counted here: pynetdicom would count connections that have not said anything yet.
        ae.maximum_associations = sys.maxsize
        self._server = ae.make_server(
            (settings.address, settings.port),
            # The list of an association is made from its request; this one only has to be there.
            contexts=[build_context(VERIFICATION)],
            evt_handlers=[
                (evt.EVT_CONN_OPEN, prepare_socket, [settings.network_timeout_s]),
                (evt.EVT_REQUESTED, self._handle_request),
                (evt.EVT_C_STORE, self._handle_store),
                (evt.EVT_C_FIND, self._handle_find),
            ],
            server_class=_Server,
        )
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="receiver", daemon=True
        ).start()

    def stop(self, limit_s: float) -> None:
        """Take no new association; those in the air may end within `limit_s`, then they are aborted."""
        if self._server is None:
            return
        with self._lock:
            self._stopping = True
        self._server.shutdown()
        _hang_up_on_the_silent(self._server)
        deadline = time.monotonic() + limit_s
        for assoc in self._active():
            assoc.join(max(0.0, deadline - time.monotonic()))
        aborts = [threading.Thread(target=assoc.abort, daemon=True) for assoc in self._active()]
        for abort in aborts:
            abort.start()
        for abort in aborts:
            abort.join(ABORT_LIMIT_S)
        log.info("receiver.stopped", aborted=len(aborts))

    def _active(self) -> list[Association]:
        """Associations that are not over yet; the others are forgotten."""
        with self._lock:
            self._associations = {
                assoc: facts
                for assoc, facts in self._associations.items()
                if assoc.is_alive() and not (assoc.is_released or assoc.is_aborted)
            }
            return list(self._associations)

    def _handle_request(self, event: Event) -> None:
        """Accept or reject an association, before anything of it is negotiated (PS3.8 7.1)."""
        assoc = event.assoc
        request = assoc.requestor.primitive
        facts = AssociationFacts(
            key=uuid4().hex,
            calling_ae=str(request.calling_ae_title).strip(),
            called_ae=str(request.called_ae_title).strip(),
            address=str(_plain(assoc.requestor.address)),
        )
        rejection = self._rejection(facts) or self._register(assoc, facts)
        if rejection:
            log.warning(
                "association.rejected",
                reason="/".join(map(str, rejection)),
                calling_ae=facts.calling_ae,
                called_ae=facts.called_ae,
                address=facts.address,
            )
            assoc.acse.send_reject(*rejection)
            assoc.kill()
            return
        assoc.acceptor.supported_contexts = supported_contexts(request.presentation_context_definition_list)
        log.debug("association.accepted", association=facts.key)
        if (on_association := self._on_association) is not None:
            self._attempt("association.unrecorded", facts, lambda: on_association(facts))

    def _rejection(self, facts: AssociationFacts) -> Rejection | None:
        if facts.called_ae not in (self._settings.ae_title, *self._settings.called_ae_titles):
            return CALLED_NOT_RECOGNIZED
        address = ip_address(facts.address)
        if not any(rule.admits(facts.calling_ae, address) for rule in self._settings.accept):
            return CALLING_NOT_RECOGNIZED
        return None

    def _register(self, assoc: Association, facts: AssociationFacts) -> Rejection | None:
        active = len(self._active())
        with self._lock:
            if self._stopping:
                return TEMPORARY_CONGESTION
            if active >= self._settings.maximum_associations:
                return LOCAL_LIMIT_EXCEEDED
            self._associations[assoc] = facts
        return None

    def _handle_store(self, event: Event) -> int:
        """One C-STORE (PS3.4 B.2, PS3.7 9.1.1)."""
        facts = self._associations[event.assoc]
        if event.request.AffectedSOPClassUID != event.context.abstract_syntax:
            return self._answered("store.refused", facts, SOP_CLASS_NOT_SUPPORTED, "AffectedSOPClassUID")
        status, _ = self._attempt("store.failed", facts, lambda: self._on_instance(_received(event, facts)))
        return status

    def _handle_find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        """One C-FIND, ended early by a C-CANCEL (PS3.4 C.4.1, PS3.7 9.1.2)."""
        facts = self._associations[event.assoc]
        status, found = self._attempt("find.failed", facts, lambda: iter(self._on_find(_identifier(event))))
        while found is not None:
            status, identifier = self._attempt("find.failed", facts, partial(next, found, None))
            if identifier is None:
                break
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, identifier
        yield status, None

    def _attempt(
        self, message: str, facts: AssociationFacts, call: Callable[[], Answer]
    ) -> tuple[int, Answer | None]:
        """The edge of an association: whatever is raised below is recorded here, and becomes a status."""
        try:
            return SUCCESS, call()
        except Exception as error:  # noqa: BLE001  the one edge
            return self._failed(message, facts, error), None

    def _failed(self, message: str, facts: AssociationFacts, error: Exception) -> int:
        if isinstance(error, DicomnodeError):
            return self._answered(message, facts, status_of(error), type(error).__name__)
        # A traceback's text could hold a tag value; its place cannot.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return self._answered(message, facts, PROCESSING_FAILURE, f"{type(error).__name__} at {where}")

    @staticmethod
    def _answered(message: str, facts: AssociationFacts, status: int, reason: str) -> int:
        log.warning(message, association=facts.key, status=f"{status:04X}", reason=reason)
        return status


def _hang_up_on_the_silent(server: _Server) -> None:
    """End connections that asked for nothing yet: their threads would live on until a timeout."""
    for assoc in server.active_associations:
        if assoc.requestor.primitive is None and assoc.dul.socket is not None:
            assoc.dul.socket.close()
            assoc.dul.to_user_queue.put(None)  # what the association's thread takes for that timeout


def _received(event: Event, facts: AssociationFacts) -> Received:
    """The request as it came in; raises IngestError where it names or holds no instance."""
    request = event.request
    if not request.AffectedSOPInstanceUID:
        raise MissingUID("AffectedSOPInstanceUID")
    data = request.DataSet.getvalue() if request.DataSet else b""
    if not data:
        raise NotDicom("there is no data set")
    return Received(
        association=facts,
        SOPClassUID=str(request.AffectedSOPClassUID),
        SOPInstanceUID=str(request.AffectedSOPInstanceUID),
        TransferSyntaxUID=str(event.context.transfer_syntax),
        data=data,
    )


def _identifier(event: Event) -> Dataset:
    try:
        identifier: Dataset = event.identifier
    except UNREADABLE as error:
        raise QueryNotUnderstood("Identifier", "is no data set") from error
    return identifier


def _plain(address: str) -> IPv4Address | IPv6Address:
    """An IPv4 peer of a socket that listens on both is named as an IPv4 address."""
    parsed = ip_address(address)
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed
