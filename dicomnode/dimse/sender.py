"""The service class user for Storage and Verification (PS3.4 A, B; PS3.7 9.1.1, 9.1.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.association import Association

from dicomnode.dimse.presentation import NATIVE, VERIFICATION
from dicomnode.dimse.requestor import MAXIMUM_CONTEXTS, association, requesting, status_of
from dicomnode.dimse.status import STORED_WITH_WARNING, SUCCESS
from dicomnode.errors import AssociationFailed, ContextRefused, DimseError, StoreRefused
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.imaging.transcoding import can_decode, transcoded
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance

log = structlog.get_logger()

OnOutcome = Callable[[OutgoingInstance, DimseError | None], None]
Pair = tuple[str, str]
"""SOP class and transfer syntax: what one presentation context is for."""

_INTERCHANGEABLE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
"""The same values in the same byte order, pixel data included: either can be written as the other. Big endian
data sets are offered as they are and not otherwise."""

ACCEPTED = STORED_WITH_WARNING | {SUCCESS}


@dataclass(frozen=True, slots=True)
class Originator:
    """Whose C-MOVE it is that instances are sent for (PS3.7 9.1.1.1.6, 9.1.1.1.7)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True, slots=True)
class _Manner:
    accepted: frozenset[int]
    originator: Originator | None
    decompress: bool


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
    *,
    accepted: frozenset[int] = ACCEPTED,
    originator: Originator | None = None,
    decompress: bool = False,
) -> None:
    """Send instances over one association, or over several where 128 contexts are not enough.

    The bytes of the data set are sent as they lie in the file. Only where the peer refuses Explicit or
    Implicit VR Little Endian and takes the other of the two is a data set written anew in that one; with
    `decompress`, so is a compressed one that the peer takes only uncompressed.

    `on_outcome` is called once for each instance, as its response comes: None where the status is among the
    `accepted`, else StoreRefused with it, ContextRefused, or AssociationFailed. Nothing is sent twice. Once
    `stopped()`, no further instance is offered, and those have no outcome.
    """
    manner = _Manner(accepted, originator, decompress)
    for batch in _batches(instances, manner):
        if stopped():
            return
        _send_batch(peer, calling_ae, batch, on_outcome, stopped, manner)


def send_over(
    assoc: Association,
    instances: Sequence[OutgoingInstance],
    on_outcome: OnOutcome,
    stopped: Callable[[], bool],
    *,
    accepted: frozenset[int] = ACCEPTED,
    decompress: bool = False,
) -> None:
    """As `send`, over an association that is there already, in the contexts for which this node is SCU."""
    manner, waiting = _Manner(accepted, None, decompress), list(instances)
    try:
        _send_all(assoc, waiting, on_outcome, stopped, manner)
    except AssociationFailed as error:
        for instance in waiting:
            on_outcome(instance, error)


def _batches(instances: Sequence[OutgoingInstance], manner: _Manner) -> Iterator[list[OutgoingInstance]]:
    """Groups that need no more than 128 contexts each, in the order that was given."""
    batch: list[OutgoingInstance] = []
    pairs: set[Pair] = set()
    for instance in instances:
        needed = set(_pairs(instance, manner))
        if len(pairs | needed) > MAXIMUM_CONTEXTS:
            yield batch
            batch, pairs = [], set()
        batch.append(instance)
        pairs |= needed
    if batch:
        yield batch


def offered_syntaxes(own: str, *, decompress: bool = False) -> list[str]:
    """The transfer syntaxes in which a file is offered, its own first. One a context: so that the peer has to
    say for each whether it takes it."""
    others = [syntax for syntax in _INTERCHANGEABLE if own in _INTERCHANGEABLE and syntax != own]
    if decompress and own not in _INTERCHANGEABLE and (own in NATIVE or can_decode(own)):
        others = [*_INTERCHANGEABLE]
    return [own, *others]


def _pairs(instance: OutgoingInstance, manner: _Manner) -> list[Pair]:
    """The contexts that suit an instance, that of the file first."""
    syntaxes = offered_syntaxes(instance.TransferSyntaxUID, decompress=manner.decompress)
    return [(instance.SOPClassUID, syntax) for syntax in syntaxes]


def _send_batch(
    peer: Peer,
    calling_ae: str,
    instances: Sequence[OutgoingInstance],
    on_outcome: OnOutcome,
    stopped: Callable[[], bool],
    manner: _Manner,
) -> None:
    pairs = dict.fromkeys(pair for instance in instances for pair in _pairs(instance, manner))
    waiting = list(instances)
    try:
        with association(peer, calling_ae, [build_context(*pair) for pair in pairs]) as assoc:
            _send_all(assoc, waiting, on_outcome, stopped, manner)
    except AssociationFailed as error:
        log.warning("association.failed", peer=peer.ae_title, instances=len(waiting))
        for instance in waiting:
            on_outcome(instance, error)


def _send_all(
    assoc: Association,
    waiting: list[OutgoingInstance],
    on_outcome: OnOutcome,
    stopped: Callable[[], bool],
    manner: _Manner,
) -> None:
    """Send what is `waiting`, and take it out; raises AssociationFailed with the rest still in there."""
    agreed = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in assoc.accepted_contexts
        if context.as_scu
    }
    number = 0
    while waiting and not stopped():
        outcome = _send_one(assoc, waiting[0], agreed, number % 65535 + 1, manner)
        on_outcome(waiting.pop(0), outcome)
        number += 1


def _send_one(
    assoc: Association, instance: OutgoingInstance, agreed: set[Pair], message_id: int, manner: _Manner
) -> DimseError | None:
    """What became of one instance; raises AssociationFailed where the association did not survive it."""
    pair = next((pair for pair in _pairs(instance, manner) if pair in agreed), None)
    if pair is None:
        return ContextRefused(instance.SOPClassUID, instance.TransferSyntaxUID)
    if not assoc.is_established:
        raise AssociationFailed("the association was lost")
    try:
        item = _form(instance, pair[1])
    except (OSError, *UNREADABLE) as error:
        return DimseError(f"the file cannot be sent: {type(error).__name__}")
    try:
        with requesting():
            response = _response(assoc, item, message_id, manner.originator)
    except (OSError, InvalidDicomError, ValueError, AttributeError) as error:
        return DimseError(f"the file cannot be sent: {type(error).__name__}")
    status = status_of(response)
    return None if status in manner.accepted else StoreRefused(status)


def _form(instance: OutgoingInstance, syntax: str) -> Path | Dataset:
    """A path is read and sent piece by piece (see configure_pynetdicom); a data set is encoded anew."""
    if syntax == instance.TransferSyntaxUID:
        return Path(instance.path)
    if instance.TransferSyntaxUID in _INTERCHANGEABLE:
        return dcmread(instance.path)
    file, _ = transcoded(Path(instance.path), UID(syntax))
    return dcmread(BytesIO(file))


def _response(
    assoc: Association, item: Path | Dataset, message_id: int, originator: Originator | None
) -> Dataset:
    """What the peer answers; without a status where it answers nothing."""
    response: Dataset = assoc.send_c_store(
        item,
        msg_id=message_id,
        originator_aet=originator.ae_title if originator else None,
        originator_id=originator.message_id if originator else None,
    )
    return response
