"""Which requests their requestors have cancelled, in the order of the wire (PS3.7 9.3.2.3).

pynetdicom forgets what was cancelled when it begins with a request: a C-CANCEL that follows its request
closely is there by then, and would be lost.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event

_C_CANCEL_RQ = 0x0FFF
_RESPONSE = 0x8000


class Cancellations:
    """The Message IDs that were cancelled, of each association that is followed."""

    def __init__(self) -> None:
        self._cancelled: WeakKeyDictionary[Association, set[int | None]] = WeakKeyDictionary()

    def follow(self, assoc: Association) -> None:
        """Listen to what comes on it from now on; before its first message."""
        self._cancelled[assoc] = set()
        assoc.bind(evt.EVT_DIMSE_RECV, self._note)

    def holds(self, assoc: Association, message_id: int) -> bool:
        """True where a C-CANCEL came after the last request of that Message ID."""
        return message_id in self._cancelled[assoc]

    def _note(self, event: Event) -> None:
        command, cancelled = event.message.command_set, self._cancelled[event.assoc]
        if command.CommandField == _C_CANCEL_RQ:
            cancelled.add(command.get("MessageIDBeingRespondedTo"))
        elif not command.CommandField & _RESPONSE:
            cancelled.discard(command.get("MessageID"))
