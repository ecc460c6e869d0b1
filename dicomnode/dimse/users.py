"""Who a requestor says it is: names and passcodes that the configuration knows (PS3.7 D.3.3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pynetdicom.pdu_primitives import UserIdentityNegotiation

from dicomnode.model.passcode import verify_passcode

USERNAME = 1
USERNAME_AND_PASSCODE = 2


@dataclass(frozen=True, slots=True)
class Users:
    """Those who may open associations: name → hashed passcode, "" for a name that needs none.

    Without any name, identities are not looked at: an association is accepted without a response to them,
    as the standard has it for whoever does not support them (PS3.7 D.3.3.7).
    """

    passcodes: Mapping[str, str] = field(default_factory=dict)
    required: bool = False

    @property
    def are_known(self) -> bool:
        """True where identities are checked."""
        return bool(self.passcodes)

    def admit(self, identity: UserIdentityNegotiation | None) -> bool:
        """False for an identity that is wrong, of a kind that is not checked here, or missing where required.

        Kerberos, SAML and JSON Web Tokens (types 3 to 5) are such kinds.
        """
        if not self.are_known:
            return True
        if identity is None:
            return not self.required
        known = self.passcodes.get(_text(identity.primary_field))
        if known is None:
            return False
        if identity.user_identity_type == USERNAME_AND_PASSCODE:
            return known == "" or verify_passcode(_text(identity.secondary_field), known)
        return identity.user_identity_type == USERNAME and known == ""


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
