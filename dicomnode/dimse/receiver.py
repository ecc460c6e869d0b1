"""The life of the associations that others open: whom to accept, how many, until when (PS3.8 7.1, PS3.7 D).

What is done on them is the business of services: see `service` for how one is added.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from ssl import SSLContext
from uuid import uuid4

import structlog
from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from dicomnode.dimse.dispatch import Dispatch
from dicomnode.dimse.edge import attempt
from dicomnode.dimse.negotiation import answer_identity, answer_window
from dicomnode.dimse.presentation import VERIFICATION
from dicomnode.dimse.pynetdicom_settings import configure_pynetdicom
from dicomnode.dimse.rate import RequestRate
from dicomnode.dimse.server import Server, SharedServer
from dicomnode.dimse.service import Service
from dicomnode.dimse.slots import Slots
from dicomnode.dimse.sockets import prepare_socket
from dicomnode.dimse.tls import ListenerTLS, listener_context
from dicomnode.dimse.upper_layer import adopt
from dicomnode.dimse.users import Users
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

__all__ = ["AcceptRule", "Receiver", "ReceiverSettings", "configure_pynetdicom"]

log = structlog.get_logger()

ABORT_LIMIT_S = 2.0
"""How long a stop waits for an abort: a peer that stalls in the middle of a PDU holds it up."""

_BY_PROVIDER = 0x02
"""The source of an A-ABORT (PS3.8 9.3.8)."""
Rejection = tuple[int, int, int]
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
CALLING_NOT_RECOGNIZED: Rejection = (1, 1, 3)
CALLED_NOT_RECOGNIZED: Rejection = (1, 1, 7)
USER_NOT_RECOGNIZED: Rejection = (1, 2, 1)
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

    `maximum_associations_per_peer` and `requests_per_second` are for each address. `called_ae_titles` are
    further names that the node answers to. `maximum_pdu` 0 is no limit (PS3.8 D.1); `maximum_instance`: bytes
    of a data set. `tls` is a second port; where it is the same one, nobody is heard in the clear.
    `is_shared`: other processes listen on the same ports; then the limits on associations hold for all that
    have the same file `slots`.
    """

    ae_title: str
    address: str
    port: int
    accept: tuple[AcceptRule, ...]
    maximum_associations: int = 32
    maximum_associations_per_peer: int = 32
    maximum_pdu: int = 0
    maximum_instance: int = 16_384_000_000
    requests_per_second: int = 2000
    network_timeout_s: float = 60.0
    acse_timeout_s: float = 30.0
    dimse_timeout_s: float = 60.0
    called_ae_titles: tuple[str, ...] = ()
    users: Users = field(default_factory=Users)
    tls: ListenerTLS | None = None
    is_shared: bool = False
    slots: Path | None = None


class Receiver:
    """Listens until it is stopped. The handlers of `services` are called in the association's own thread."""

    def __init__(
        self,
        settings: ReceiverSettings,
        services: Sequence[Service],
        on_association: Callable[[AssociationFacts], None] | None = None,
    ) -> None:
        self._settings, self._on_association = settings, on_association
        self._dispatch = Dispatch(services, self._facts)
        self._lock = threading.Lock()
        self._associations: dict[Association, AssociationFacts] = {}
        self._slots = Slots(settings.slots, settings.maximum_associations)
        self._places: dict[Association, int] = {}
        self._rate = RequestRate(settings.requests_per_second)
        self._stopping = False
        self._servers: list[Server] = []

    @property
    def port(self) -> int:
        """The port that is listened on, also where the settings say 0."""
        return self._ports()[0]

    @property
    def tls_port(self) -> int:
        """The port that is listened on by TLS, also where the settings say 0."""
        return self._ports()[-1]

    def _ports(self) -> list[int]:
        if not self._servers:
            raise RuntimeError("the receiver has not been started")
        return [int(server.server_address[1]) for server in self._servers]

    def start(self) -> None:
        """Listen, and return. Raises OSError where the address cannot be had, or the files for TLS cannot."""
        configure_pynetdicom()
        ae, settings = self._application_entity(), self._settings
        tls = settings.tls
        context = listener_context(tls) if tls else None
        if tls is None or tls.port != settings.port or not tls.port:
            self._listen(ae, settings.port, None)
        if tls is not None:
            self._listen(ae, tls.port, context)

    def _application_entity(self) -> AE:
        settings = self._settings
        ae = AE(settings.ae_title)
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = settings.maximum_pdu
        ae.network_timeout = settings.network_timeout_s
        ae.acse_timeout = settings.acse_timeout_s
        ae.dimse_timeout = settings.dimse_timeout_s
        # Counted here: pynetdicom would count connections that have not said anything yet.
        ae.maximum_associations = sys.maxsize
        return ae

    def _listen(self, ae: AE, port: int, context: SSLContext | None) -> None:
        server = ae.make_server(
            (self._settings.address, port),
            # The list of an association is made from its request; this one only has to be there.
            contexts=[build_context(VERIFICATION)],
            ssl_context=context,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._handle_connection),
                (evt.EVT_REQUESTED, self._handle_request),
                *self._dispatch.handlers(),
            ],
            server_class=SharedServer if self._settings.is_shared else Server,
        )
        self._servers.append(server)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="receiver", daemon=True
        ).start()

    def stop(self, limit_s: float) -> None:
        """Take no new association; those in the air may end within `limit_s`, then they are aborted."""
        with self._lock:
            self._stopping = True
        for server in self._servers:
            server.shutdown()
            _hang_up_on_the_silent(server)
        deadline = time.monotonic() + limit_s
        for assoc in self._active():
            assoc.join(max(0.0, deadline - time.monotonic()))
        aborts = [threading.Thread(target=assoc.abort, daemon=True) for assoc in self._active()]
        for abort in aborts:
            abort.start()
        for abort in aborts:
            abort.join(ABORT_LIMIT_S)
        log.info("receiver.stopped", aborted=len(aborts))

    def _facts(self, assoc: Association) -> AssociationFacts:
        return self._associations[assoc]

    def _active(self) -> list[Association]:
        """Associations that are not over yet; the others are forgotten."""
        with self._lock:
            known = self._associations
            self._associations = {
                assoc: facts
                for assoc, facts in known.items()
                if assoc.is_alive() and not (assoc.is_released or assoc.is_aborted)
            }
            over = known.keys() - self._associations.keys()
            active = list(self._associations)
        for assoc in over:
            self._vacate(assoc)
        return active

    def _vacate(self, assoc: Association) -> None:
        """Its place is for others."""
        with self._lock:
            place = self._places.pop(assoc, None)
        if place is not None:
            self._slots.give_back(place)

    def _handle_connection(self, event: Event) -> None:
        """Make a connection ready before anything is read from it."""
        prepare_socket(event, self._settings.network_timeout_s)
        assoc, limit = event.assoc, self._settings.maximum_instance
        admit = partial(self._rate.wait, str(assoc.requestor.address))
        adopt(assoc, partial(self._dispatch.open_store, assoc), admit, limit, partial(self._vacate, assoc))

    def _handle_request(self, event: Event) -> None:
        """Accept or reject an association, before anything of it is negotiated (PS3.8 7.1)."""
        assoc = event.assoc
        request = assoc.requestor.primitive
        if not _is_whole(request.presentation_context_definition_list):
            log.warning("association.aborted", address=str(_plain(assoc.requestor.address)))
            assoc.acse.send_abort(_BY_PROVIDER)
            assoc.kill()
            return
        facts = AssociationFacts(
            key=uuid4().hex,
            calling_ae=str(request.calling_ae_title).strip(),
            called_ae=str(request.called_ae_title).strip(),
            address=str(_plain(assoc.requestor.address)),
        )
        rejection = self._rejection(facts, assoc) or self._register(assoc, facts)
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
        self._dispatch.attach(assoc)
        answer_window(assoc)
        if self._settings.users.are_known:
            answer_identity(assoc)
        log.debug("association.accepted", association=facts.key)
        if (on_association := self._on_association) is not None:
            attempt("association.unrecorded", facts, lambda: on_association(facts))

    def _rejection(self, facts: AssociationFacts, assoc: Association) -> Rejection | None:
        if facts.called_ae not in (self._settings.ae_title, *self._settings.called_ae_titles):
            return CALLED_NOT_RECOGNIZED
        address = ip_address(facts.address)
        if not any(rule.admits(facts.calling_ae, address) for rule in self._settings.accept):
            return CALLING_NOT_RECOGNIZED
        return None if self._settings.users.admit(assoc.requestor.user_identity) else USER_NOT_RECOGNIZED

    def _register(self, assoc: Association, facts: AssociationFacts) -> Rejection | None:
        self._active()
        with self._lock:
            if self._stopping:
                return TEMPORARY_CONGESTION
            place = self._slots.take(facts.address, self._settings.maximum_associations_per_peer)
            if place is None:
                return LOCAL_LIMIT_EXCEEDED
            self._places[assoc] = place
            self._associations[assoc] = facts
        return None


def _is_whole(contexts: Sequence[PresentationContext]) -> bool:
    """True where each context has a number of its own, a class and a syntax (PS3.8 9.3.2.2)."""
    numbers = {context.context_id for context in contexts}
    return 0 < len(numbers) == len(contexts) and all(
        context.abstract_syntax and context.transfer_syntax for context in contexts
    )


def _hang_up_on_the_silent(server: Server) -> None:
    """End connections that asked for nothing yet: their threads would live on until a timeout."""
    for assoc in server.active_associations:
        if assoc.requestor.primitive is None and assoc.dul.socket is not None:
            assoc.dul.socket.close()
            assoc.dul.to_user_queue.put(None)  # what the association's thread takes for that timeout


def _plain(address: str) -> IPv4Address | IPv6Address:
    """An IPv4 peer of a socket that listens on both is named as an IPv4 address."""
    parsed = ip_address(address)
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed
