"""From a destination of the configuration to the courier that serves it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dicomnode.config import DeliverySection, Destination, WebPeer
from dicomnode.dicomweb.authentication import Basic, Bearer, ClientCredentials
from dicomnode.dicomweb.client import WebClient, http_client
from dicomnode.dimse.commitment import request_commitment
from dicomnode.dimse.query import listed_instances
from dicomnode.dimse.sender import send
from dicomnode.errors import ConfigError, WebError
from dicomnode.model.commitment import CommitmentRequest
from dicomnode.model.peer import Peer
from dicomnode.services.commitment import CommitmentReports, ConfirmByCommitment
from dicomnode.services.confirmation import ConfirmByListing, Listed
from dicomnode.services.delivery import Courier, Send, Transport
from dicomnode.services.secrets import read_secret
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects

COMMIT_AFTER_S = 0.2
"""An archive may have at hand what it accepted a moment later, and is asked to commit itself once."""


def courier_for(
    database: Database,
    objects: Objects,
    destination: Destination,
    calling_ae: str,
    settings: DeliverySection,
) -> Courier:
    """A courier that sends and asks as the destination wants it. Raises ConfigError."""
    peer = destination.dimse.peer if destination.dimse is not None else None
    web = web_client(destination, destination.web) if destination.web is not None else None

    def by_listing(listed: Listed) -> Callable[[], int]:
        return ConfirmByListing(database, objects, destination.name, listed, settings).tick

    confirm, confirm_after_s = None, 0.0
    if destination.confirm == "qido" and web is not None:
        confirm = by_listing(web.listed_instances)
    elif destination.confirm == "find" and peer is not None:
        confirm = by_listing(partial(listed_instances, peer, calling_ae))
    elif destination.confirm == "commitment" and peer is not None:
        ask = _commitment_of(peer, calling_ae, database, settings)
        confirm = ConfirmByCommitment(database, objects, destination.name, ask, settings).tick
        confirm_after_s = COMMIT_AFTER_S
    if web is not None:
        offer: Send = web.send
    elif peer is not None:
        offer = partial(send, peer, calling_ae)
    else:
        raise ConfigError(f"destination {destination.name!r}", ["has neither dimse nor web"])
    transport = Transport(offer, confirm, confirm_after_s)
    return Courier(database, objects, destination.name, transport, settings)


def web_client(destination: Destination, web: WebPeer) -> WebClient:
    """The client of a destination's DICOMweb service, with its credentials. Raises ConfigError."""
    try:
        client = http_client(web.connect_timeout_s, web.response_timeout_s, web.ca_file)
    except OSError as error:  # ssl.SSLError is one
        problem = f"ca_file cannot be read: {type(error).__name__}"
        raise ConfigError(f"destination {destination.name!r}", [problem]) from None

    def secret() -> str:
        try:
            return read_secret(destination)
        except ConfigError as error:  # its file was there when the node started
            raise WebError(str(error)) from None

    if web.token_url:
        token_client = http_client(web.connect_timeout_s, web.response_timeout_s, web.ca_file)
        credentials = ClientCredentials(token_client, web.token_url, web.client_id, secret, web.scope)
        return WebClient(web.url, client, credentials)
    if web.user:
        return WebClient(web.url, client, Basic(web.user, secret))
    return WebClient(web.url, client, Bearer(secret) if read_secret(destination) else None)


def _commitment_of(
    peer: Peer, calling_ae: str, database: Database, settings: DeliverySection
) -> Callable[[CommitmentRequest], None]:
    """How an archive is asked to commit itself."""
    on_report = CommitmentReports(database, settings).take

    def ask(request: CommitmentRequest) -> None:
        request_commitment(peer, calling_ae, request, on_report, settings.report_wait_s)

    return ask
