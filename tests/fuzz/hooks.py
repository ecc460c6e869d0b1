"""How schemathesis writes the bodies of STOW requests."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


@schemathesis.serializer("multipart/related")
def write_parts(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """One part of each kind, with whatever was generated in it."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    kinds = (b"application/dicom", b"application/dicom+json", b"application/octet-stream")
    return (
        b"".join(b"--b\r\nContent-Type: " + kind + b"\r\n\r\n" + text + b"\r\n" for kind in kinds)
        + b"--b--\r\n"
    )
