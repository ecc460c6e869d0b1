"""Sets of transfer syntaxes under names, so that a table of contexts can be read."""

from __future__ import annotations

from collections.abc import Sequence

from dicomnode.dimse.names import by_number, uid_name
from dicomnode.dimse.presentation import NATIVE, TRANSFER_SYNTAXES
from dicomnode.services.conformance.document import Table

EVERY = "every"
UNCOMPRESSED = "uncompressed"
TITLE = "Transfer syntaxes"
_NAMED = {frozenset(TRANSFER_SYNTAXES): EVERY, frozenset(map(str, NATIVE)): UNCOMPRESSED}


class Sets:
    """The sets that a statement has named so far."""

    def __init__(self) -> None:
        self._names: dict[frozenset[str], str] = {}

    def name(self, syntaxes: Sequence[str]) -> str:
        """What the set is called; one that has no word of its own gets a number."""
        members = frozenset(map(str, syntaxes))
        return self._names.setdefault(members, _NAMED.get(members) or f"set {len(self._names) + 1}")

    def table(self) -> Table:
        """Each set with its members."""
        rows = [
            (name, uid_name(uid), uid) for members, name in self._names.items() for uid in by_number(members)
        ]
        return Table(TITLE, ("Set", "Name", "UID"), tuple(rows))
