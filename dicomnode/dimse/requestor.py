"""How this node calls others: one association with a peer (PS3.7 D, PS3.8 7.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicomnode.dimse.pynetdicom_settings import configure_pynetdicom
from dicomnode.dimse.sockets import prepare_socket
from dicomnode.dimse.tls import requestor_context
from dicomnode.dimse.upper_layer import pause_surely
from dicomnode.errors import AssociationFailed
from dicomnode.model.peer import Peer
from dicomnode.model.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

MAXIMUM_CONTEXTS = 128
"""Context IDs are odd and at most 255 (PS3.8 9.3.2.2)."""


@contextmanager
def association(
    peer: Peer,
    calling_ae: str,
    contexts: Sequence[PresentationContext],
    negotiated: Sequence[Any] = (),
    handlers: Sequence[tuple[Any, ...]] = (),
) -> Iterator[Association]:
    """An association that the peer answered; released at the end, or aborted where an error ends it.

    `negotiated` are further items of the request, such as roles (PS3.7 D.3.3); `handlers` are for what the
    peer asks on it, as pynetdicom takes them.
    It may be without a single accepted context: then pynetdicom has ended it already, and
    `assoc.rejected_contexts` names them all. Raises AssociationFailed where there is none.
    """
    configure_pynetdicom()
    ae = AE(calling_ae)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = peer.connect_timeout_s
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = peer.response_timeout_s
    try:
        tls_args = (requestor_context(peer.tls), peer.host) if peer.tls else None
    except OSError as error:
        raise AssociationFailed("the files for TLS cannot be used") from error
    try:
        assoc = ae.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ext_neg=list(negotiated),
            ae_title=peer.ae_title,
            max_pdu=0,
            evt_handlers=[(evt.EVT_CONN_OPEN, prepare_socket, [peer.response_timeout_s]), *handlers],
            tls_args=tls_args,
        )
    except OSError as error:  # the host's name is not known
        raise AssociationFailed(f"{peer.host} cannot be found") from error
    _require_answer(assoc)
    pause_surely(assoc)
    try:
        yield assoc
    except BaseException:
        assoc.abort()
        raise
    if assoc.is_established:
        assoc.release()


@contextmanager
def requesting() -> Iterator[None]:
    """Around a request: pynetdicom's word for an association that ended just now is RuntimeError.

    Raises AssociationFailed.
    """
    try:
        yield
    except RuntimeError as error:
        raise AssociationFailed("the association was lost") from error


def status_of(response: Dataset) -> int:
    """The status that the peer answered. Raises AssociationFailed where it answered nothing."""
    status = response.get("Status")
    if status is None:
        raise AssociationFailed("the association was lost before the peer answered")
    return int(status)


def _require_answer(assoc: Association) -> None:
    if assoc.is_established or assoc.rejected_contexts:
        return
    if assoc.is_rejected:
        answer = assoc.acceptor.primitive
        raise AssociationFailed(
            f"the peer rejected the association ({answer.result}/{answer.result_source}/{answer.diagnostic}: "
            f"{answer.reason_str})"
        )
    raise AssociationFailed("the peer cannot be reached, or did not answer")
