"""TLS below DICOM's upper layer, as the BCP 195 RFC 8996, 9325 profile wants it (PS3.15 B.12)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from dicomnode.model.peer import PeerTLS

HANDSHAKE_LIMIT_S = 5.0
"""How long a peer may take for a handshake: it has nothing to think about."""

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 4.2)."""


@dataclass(frozen=True, slots=True)
class ListenerTLS:
    """How the receiver shows who it is, and whether its peers have to. Files are PEM.

    `ca`: who signs the certificates of peers; "" where they need none.
    """

    port: int
    certificate: str
    key: str
    ca: str = ""


def listener_context(settings: ListenerTLS) -> ssl.SSLContext:
    """What the receiver speaks with. Raises OSError where a file is not there, or not what it should be."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.certificate, settings.key)
    # A ticket is data that is none of DICOM's: pynetdicom would take it for the beginning of a PDU.
    context.num_tickets = 0
    if settings.ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(settings.ca)
    return context


def requestor_context(settings: PeerTLS) -> ssl.SSLContext:
    """What a peer is called with; it has to show a certificate. Raises OSError as `listener_context` does."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = settings.verify_host
    if settings.ca:
        context.load_verify_locations(settings.ca)
    else:
        context.load_default_certs()
    if settings.certificate:
        context.load_cert_chain(settings.certificate, settings.key)
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    return context
