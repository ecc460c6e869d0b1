"""The service class user for Retrieve: C-MOVE and C-GET (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from dicomnode.dimse.information_model import GET, MOVE, Root
from dicomnode.dimse.presentation import NATIVE
from dicomnode.dimse.requestor import MAXIMUM_CONTEXTS, association, requesting
from dicomnode.dimse.status import (
    CANCELLED,
    PENDING,
    SUBOPERATIONS_FAILED,
    SUBOPERATIONS_WITH_FAILURES,
    SUCCESS,
)
from dicomnode.dimse.storage import storage
from dicomnode.errors import AssociationFailed, ContextRefused, DimseError
from dicomnode.model.instance import AssociationFacts, Received
from dicomnode.model.peer import Peer

_ENDED = frozenset({SUCCESS, CANCELLED, SUBOPERATIONS_FAILED, SUBOPERATIONS_WITH_FAILURES})
_SYNTAXES = [str(syntax) for syntax in NATIVE[:2]]
_COMPRESSED = (
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    JPEG2000,
    JPEGExtended12Bit,
    JPEGLossless,
    HTJ2KLossless,
    JPEGLSNearLossless,
)
"""What archives keep, the most frequent first; one a context: the peer can choose for each instance."""
_MESSAGE_ID = 1

Responses = Iterator[tuple[Dataset, Dataset | None]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a retrieval ended: its sub-operations by outcome, and the SOP Instance UIDs of what failed."""

    completed: int
    warned: int
    failed: int
    failed_instances: tuple[str, ...]
    cancelled: bool


def move(
    peer: Peer,
    calling_ae: str,
    identifier: Dataset,
    destination: str,
    root: Root = Root.STUDY,
    stopped: Callable[[], bool] = lambda: False,
) -> Fetched:
    """Have the peer send what `identifier` names to the AE title `destination`, which it has to know.

    Once `stopped()`, the rest is cancelled. Raises AssociationFailed, ContextRefused where the peer does not
    take part in C-MOVE of this model, DimseError where it refuses the request.
    """
    model = _model(MOVE, root)
    with association(peer, calling_ae, [move_context(root)]) as assoc:
        return _fetch(
            assoc, model, stopped, lambda: assoc.send_c_move(identifier, destination, model, _MESSAGE_ID)
        )


def get(
    peer: Peer,
    calling_ae: str,
    identifier: Dataset,
    SOPClasses: Sequence[str],
    on_instance: Callable[[Received], object],
    root: Root = Root.STUDY,
    stopped: Callable[[], bool] = lambda: False,
) -> Fetched:
    """Take what `identifier` names from the peer, on the association that asks for it.

    Only instances of `SOPClasses` come, of which there can be 127 at most. When `on_instance` returns, the
    instance is durable and 0x0000 is answered; what it raises is answered with its status, and the instance
    is counted as failed. Otherwise as `move`.
    """
    model = _model(GET, root)
    facts = AssociationFacts(uuid4().hex, peer.ae_title, calling_ae, peer.host, asked=True)
    store = storage(on_instance).handlers[evt.EVT_C_STORE]

    def handle(event: Event) -> int:
        status: int = store(event, facts)
        return status

    contexts = get_contexts(SOPClasses, root)
    roles = [build_role(uid, scp_role=True) for uid in dict.fromkeys(SOPClasses)]
    with association(peer, calling_ae, contexts, roles, [(evt.EVT_C_STORE, handle)]) as assoc:
        return _fetch(assoc, model, stopped, lambda: assoc.send_c_get(identifier, model, _MESSAGE_ID))


def _model(classes: Mapping[str, Root], root: Root) -> str:
    return next(uid for uid, its_root in classes.items() if its_root is root)


def move_context(root: Root = Root.STUDY) -> PresentationContext:
    """What `move` proposes."""
    return build_context(_model(MOVE, root), _SYNTAXES)


def get_contexts(SOPClasses: Sequence[str], root: Root = Root.STUDY) -> list[PresentationContext]:
    """What `get` proposes: for the request, then for the instances that come."""
    return [build_context(_model(GET, root), _SYNTAXES), *_storage_contexts(SOPClasses)]


def _storage_contexts(SOPClasses: Sequence[str]) -> list[PresentationContext]:
    """For each class a context that every peer can send in, then as many as there is room for in which it can
    send what it keeps compressed as it is."""
    classes = list(dict.fromkeys(SOPClasses))
    native = [build_context(uid, _SYNTAXES) for uid in classes]
    compressed = [build_context(uid, syntax) for syntax in _COMPRESSED for uid in classes]
    return [*native, *compressed][: MAXIMUM_CONTEXTS - 1]


def _fetch(
    assoc: Association, model: str, stopped: Callable[[], bool], ask: Callable[[], Responses]
) -> Fetched:
    if model not in {context.abstract_syntax for context in assoc.accepted_contexts}:
        raise ContextRefused(model, _SYNTAXES[0])
    cancelled = False
    with requesting():
        for response, identifier in ask():
            status = response.get("Status")
            if status is None:
                raise AssociationFailed("the association was lost before the peer had answered")
            if status != PENDING:
                return _outcome(response, identifier)
            if stopped() and not cancelled:
                assoc.send_c_cancel(_MESSAGE_ID, query_model=model)
                cancelled = True
    raise AssociationFailed("the association was lost before the peer had answered")


def _outcome(response: Dataset, identifier: Dataset | None) -> Fetched:
    if response.Status not in _ENDED:
        raise DimseError(f"the peer refused to retrieve with status 0x{int(response.Status):04X}")
    failed = identifier.get("FailedSOPInstanceUIDList") if identifier is not None else None
    return Fetched(
        int(response.get("NumberOfCompletedSuboperations") or 0),
        int(response.get("NumberOfWarningSuboperations") or 0),
        int(response.get("NumberOfFailedSuboperations") or 0),
        tuple(map(str, [failed] if isinstance(failed, str) else failed or [])),
        response.Status == CANCELLED,
    )
