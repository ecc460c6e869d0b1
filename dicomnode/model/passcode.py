"""Passcodes as the configuration keeps them: hashed by scrypt, each with a salt of its own (RFC 7914)."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode

_COST, _BLOCK, _PARALLEL, _SALT_BYTES, _DIGEST_BYTES = 2**14, 8, 1, 16, 32
_KIND = f"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}"


def hash_passcode(passcode: str) -> str:
    """`passcode`, hashed: kind and cost, salt, digest."""
    salt = os.urandom(_SALT_BYTES)
    return f"{_KIND}:{b64encode(salt).decode()}:{b64encode(_digest(passcode, salt)).decode()}"


def verify_passcode(passcode: str, hashed: str) -> bool:
    """True where it is the one that was hashed. Raises ValueError where `hashed` is none of ours."""
    salt, digest = _parts(hashed)
    return hmac.compare_digest(_digest(passcode, salt), digest)


def require_hashed(text: str) -> str:
    """The same text; raises ValueError where it is not of `hash_passcode`."""
    _parts(text)
    return text


def _parts(hashed: str) -> tuple[bytes, bytes]:
    kind, *encoded = hashed.rsplit(":", 2)
    if kind != _KIND or len(encoded) != 2:
        raise ValueError("is not a hashed passcode; `dicomnode passcode` makes one")
    salt, digest = (b64decode(part, validate=True) for part in encoded)
    return salt, digest


def _digest(passcode: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        passcode.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, maxmem=2**26, dklen=_DIGEST_BYTES
    )
