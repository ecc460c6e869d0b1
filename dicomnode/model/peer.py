"""Another application entity on the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerTLS:
    """How a peer is spoken to by TLS. Files are PEM.

    `ca`: who signs its certificate, "" for whoever the operating system trusts. `certificate` and `key`: what
    it is shown, "" for nothing. `verify_host`: its certificate has to be for the host that it is called at.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify_host: bool = True


@dataclass(frozen=True, slots=True)
class Peer:
    """Where an application entity listens, and how long to wait for it (s). Without `tls` in the clear."""

    ae_title: str
    host: str
    port: int
    connect_timeout_s: float = 10.0
    response_timeout_s: float = 60.0
    tls: PeerTLS | None = None
