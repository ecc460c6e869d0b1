"""The service class user for Storage and Verification (PS3.4 A, B; PS3.7 9.1.1, 9.1.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.association import Association

from dicomnode.dimse.presentation import VERIFICATION
from dicomnode.dimse.requestor import MAXIMUM_CONTEXTS, association
from dicomnode.dimse.status import SUCCESS
from dicomnode.errors import AssociationFailed, ContextRefused, DimseError, StoreRefused
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance

log = structlog.get_logger()

OnOutcome = Callable[[OutgoingInstance, DimseError | None], None]
Pair = tuple[str, str]
"""SOP class and transfer syntax: what one presentation context is for."""

_INTERCHANGEABLE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
"""The same values in the same byte order, pixel data included: either can be written as the other. Big endian
and compressed data sets are offered as they are and not otherwise: nothing is decoded to be sent."""

ACCEPTED = frozenset({SUCCESS, 0xB000, 0xB006, 0xB007})
"""Success, and the warnings under which the peer kept the instance (PS3.4 B.2.3)."""


def echo(peer: Peer, calling_ae: str) -> None:
    """Ask the peer whether it is there (PS3.4 A.4). Raises AssociationFailed."""
    with association(peer, calling_ae, [build_context(VERIFICATION)]) as assoc:
        if not assoc.is_established:
            raise AssociationFailed("the peer does not take part in Verification")
        if assoc.send_c_echo().get("Status") != SUCCESS:
            raise AssociationFailed("the peer did not answer C-ECHO with success")


def send(
    peer: Peer,
    calling_ae: str,
    instances: Sequence[OutgoingInstance],
    on_outcome: OnOutcome,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Send instances over one association, or over several where 128 contexts are not enough.

    The bytes of the data set are sent as they lie in the file. Only where the peer refuses Explicit or
    Implicit VR Little Endian and takes the other of the two is a data set written anew in that one.

    `on_outcome` is called once for each instance, as its response comes: None where the peer has taken it,
    else StoreRefused with its status, ContextRefused, or AssociationFailed. Nothing is sent twice. Once
    `stopped()`, no further instance is offered, and those have no outcome.
    """
    for batch in _batches(instances):
        if stopped():
            return
        _send_batch(peer, calling_ae, batch, on_outcome, stopped)


def _batches(instances: Sequence[OutgoingInstance]) -> Iterator[list[OutgoingInstance]]:
    """Groups that need no more than 128 contexts each, in the order that was given."""
    batch: list[OutgoingInstance] = []
    pairs: set[Pair] = set()
    for instance in instances:
        needed = set(_acceptable(instance))
        if len(pairs | needed) > MAXIMUM_CONTEXTS:
            yield batch
            batch, pairs = [], set()
        batch.append(instance)
        pairs |= needed
    if batch:
        yield batch


def _acceptable(instance: OutgoingInstance) -> list[Pair]:
    """The contexts that suit an instance, that of the file first. One transfer syntax a context: so that the
    peer has to say for each whether it takes it."""
    own = instance.TransferSyntaxUID
    others = [syntax for syntax in _INTERCHANGEABLE if own in _INTERCHANGEABLE and syntax != own]
    return [(instance.SOPClassUID, syntax) for syntax in (own, *others)]


def _send_batch(
    peer: Peer,
    calling_ae: str,
    instances: Sequence[OutgoingInstance],
    on_outcome: OnOutcome,
    stopped: Callable[[], bool],
) -> None:
    pairs = dict.fromkeys(pair for instance in instances for pair in _acceptable(instance))
    waiting = list(instances)
    try:
        with association(peer, calling_ae, [build_context(*pair) for pair in pairs]) as assoc:
            accepted = {
                (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                for context in assoc.accepted_contexts
            }
            for number, instance in enumerate(instances):
                if stopped():
                    return
                outcome = _send_one(assoc, instance, accepted, number % 65535 + 1)
                on_outcome(waiting.pop(0), outcome)
    except AssociationFailed as error:
        log.warning("association.failed", peer=peer.ae_title, instances=len(waiting))
        for instance in waiting:
            on_outcome(instance, error)


def _send_one(
    assoc: Association, instance: OutgoingInstance, accepted: set[Pair], message_id: int
) -> DimseError | None:
    """What became of one instance; raises AssociationFailed where the association did not survive it."""
    pair = next((pair for pair in _acceptable(instance) if pair in accepted), None)
    if pair is None:
        return ContextRefused(instance.SOPClassUID, instance.TransferSyntaxUID)
    if not assoc.is_established:
        raise AssociationFailed("the association was lost")
    try:
        status = _status(assoc, instance, message_id, as_it_is=pair[1] == instance.TransferSyntaxUID)
    except RuntimeError as error:  # pynetdicom's word for an association that ended just now
        raise AssociationFailed("the association was lost") from error
    except (OSError, InvalidDicomError, ValueError, AttributeError) as error:
        return DimseError(f"the file cannot be sent: {type(error).__name__}")
    if status is None:
        raise AssociationFailed("the association was lost before the peer answered")
    return None if status in ACCEPTED else StoreRefused(status)


def _status(assoc: Association, instance: OutgoingInstance, message_id: int, *, as_it_is: bool) -> int | None:
    """The status that the peer answers; None where it answers nothing."""
    # A path is read and sent piece by piece (see configure_pynetdicom); a data set is encoded anew.
    item: Path | Dataset = Path(instance.path) if as_it_is else dcmread(instance.path)
    response: Dataset = assoc.send_c_store(item, msg_id=message_id)
    status = response.get("Status")
    return None if status is None else int(status)
