"""Who asks, where the configuration wants to know: users by name and passcode, and bearers of tokens.

(RFC 7617 basic authentication, RFC 6750 bearer tokens; PS3.18 8.2 leaves the choice to the origin server.)
"""

from __future__ import annotations

import hashlib
import os
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping

from dicomnode.dicomweb.guesses import Guesses
from dicomnode.dicomweb.rate import Address
from dicomnode.errors import Unauthorized
from dicomnode.model.passcode import hash_passcode, verify_passcode

REALM = "dicomnode"
_REMEMBERED = 1000


class Guard:
    """Lets requests pass that say who they are from; may be called from several threads at once.

    `users`: name → hashed passcode. `require_token` raises Unauthorized for a token that is not valid.
    `guesses` makes who tries one after the other wait.
    """

    def __init__(
        self,
        users: Mapping[str, str],
        require_token: Callable[[str], None] | None,
        guesses: Guesses,
    ) -> None:
        self._users, self._require_token = users, require_token
        self._guesses = guesses
        self._nobody = hash_passcode(os.urandom(16).hex())
        self._key = os.urandom(32)
        self._right: set[bytes] = set()
        self._turn = threading.Lock()

    def __call__(self, authorization: str, address: Address) -> None:
        """Return where this Authorization header, from that address, is good enough.

        Raises Unauthorized, TooManyGuesses, or as tokens do.
        """
        scheme, _, credentials = authorization.partition(" ")
        kind, credentials = scheme.lower(), credentials.strip()
        if kind == "basic" and self._users and self._is_user(credentials, address):
            return
        if kind == "bearer" and self._has_good_token(credentials, address):
            return
        if credentials:
            self._guesses.count(address)
        raise Unauthorized(self._challenges(', error="invalid_token"' if kind == "bearer" else ""))

    def _challenges(self, why: str) -> tuple[str, ...]:
        basic = (f'Basic realm="{REALM}", charset="UTF-8"',) if self._users else ()
        bearer = (f'Bearer realm="{REALM}"{why}',) if self._require_token is not None else ()
        return (*bearer, *basic)

    def _has_good_token(self, credentials: str, address: Address) -> bool:
        if self._require_token is None:
            return False
        try:
            self._require_token(credentials)
        except Unauthorized:
            self._guesses.require_turn(address)
            return False
        return True

    def _is_user(self, credentials: str, address: Address) -> bool:
        """A passcode is expensive to check, on purpose: once for each that is right, one at a time.

        One that was right stays so, whoever guesses from the same address: that may be a reverse proxy's.
        """
        known_as = hashlib.blake2b(credentials.encode(), key=self._key, digest_size=32).digest()
        if known_as in self._right:
            return True
        self._guesses.require_turn(address)
        name, passcode = _decoded(credentials)
        with self._turn:
            # Of a user that is not there a passcode is checked too: how long it takes tells nothing.
            is_right = verify_passcode(passcode, self._users.get(name, self._nobody))
            if is_right and len(self._right) < _REMEMBERED:
                self._right.add(known_as)
        return is_right


def _decoded(credentials: str) -> tuple[str, str]:
    try:
        name, _, passcode = b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return name, passcode
