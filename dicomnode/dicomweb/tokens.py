"""JSON Web Tokens of an OpenID Connect provider: whose signature, for whom, until when, with which role.

(RFC 7519, RFC 8725, RFC 9068.)
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt

from dicomnode.errors import KeysAway, NotEntitled, Unauthorized

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Only those whose keys are public: "none", and a shared secret, prove nothing (RFC 8725 3.1)."""
LEEWAY_S = 30
"""How far the provider's clock may be from ours."""
KEYS_LIFE_S = 3600.0
"""A key that the provider has withdrawn is not taken any longer than this."""
KEYS_PAUSE_S = 30.0
"""Keys are read no more often, whatever keys tokens name."""

KEYS_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Whose tokens are taken, for whom, with which role ("": any). `roles_claim`: names with dots between."""

    issuer: str
    audience: str
    role: str = ""
    roles_claim: str = "roles"


def keys_in(file: str) -> Callable[[], str]:
    """The keys as they are in a file, which somebody else renews. Yields what raises KeysAway."""

    def read() -> str:
        try:
            return Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KeysAway from error

    return read


def keys_at(url: str, ca_file: str = "") -> Callable[[], str]:
    """The keys as the provider has them; `ca_file`: the authority of its certificate. Raises OSError."""
    context = ssl.create_default_context(cafile=ca_file or None)

    def read() -> str:
        try:
            return httpx.get(url, verify=context, timeout=KEYS_TIMEOUT_S).raise_for_status().text
        except httpx.HTTPError as error:
            raise KeysAway from error

    return read


class Tokens:
    """Checks tokens; `read_keys` gives the provider's JSON Web Key Set (RFC 7517) as a text."""

    def __init__(self, settings: TokenSettings, read_keys: Callable[[], str]) -> None:
        self._settings, self._read_keys = settings, read_keys
        self._keys: Mapping[str | None, jwt.PyJWK] = {}
        self._read_at = -KEYS_LIFE_S
        self._lock = threading.Lock()

    def require(self, token: str) -> None:
        """Return where the token is good. Raises Unauthorized, NotEntitled, KeysAway where nobody knows."""
        settings = self._settings
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError:
            raise Unauthorized(()) from None
        if settings.role and settings.role not in _roles(claims, settings.roles_claim):
            raise NotEntitled(settings.role)

    def look(self) -> None:
        """Read the keys. Raises KeysAway."""
        with self._lock:
            self._refresh()

    def _key(self, kid: str | None) -> jwt.PyJWK:
        with self._lock:
            age_s = time.monotonic() - self._read_at
            if age_s >= KEYS_LIFE_S or (kid not in self._keys and age_s >= KEYS_PAUSE_S):
                self._refresh()
            found = self._keys.get(kid)
        if found is None:
            raise jwt.InvalidTokenError
        return found

    def _refresh(self) -> None:
        try:
            keys = jwt.PyJWKSet.from_json(self._read_keys()).keys
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise KeysAway from error
        # A token need not name its key where there is but one.
        alone: dict[str | None, jwt.PyJWK] = {None: keys[0]} if len(keys) == 1 else {}
        self._keys, self._read_at = alone | {key.key_id: key for key in keys}, time.monotonic()


def _roles(claims: Mapping[str, Any], path: str) -> list[str]:
    """A list, or words with spaces between, as `scope` has them (RFC 6749 3.3)."""
    held: Any = claims
    for name in path.split("."):
        held = held.get(name) if isinstance(held, Mapping) else None
    return held.split() if isinstance(held, str) else [*map(str, held)] if isinstance(held, list) else []
