"""Answers are compressed for who takes gzip (RFC 9110 12.5.3)."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send


class Compression(GZipMiddleware):
    """Starlette's, which sees gzip in the header wherever it is named, with what weight soever."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            headers = MutableHeaders(scope=scope)
            is_taken = takes_gzip(headers.get("accept-encoding", ""))
            headers["accept-encoding"] = "gzip" if is_taken else "identity"
        await super().__call__(scope, receive, send)


def takes_gzip(accept_encoding: str) -> bool:
    """True where gzip is named and not refused by the weight 0; `*` is not taken for it."""
    for each in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip() for part in each.split(";"))
        if coding in ("gzip", "x-gzip"):
            return not any(_is_zero(parameter) for parameter in parameters)
    return False


def _is_zero(parameter: str) -> bool:
    name, _, weight = parameter.partition("=")
    return name.strip() == "q" and not weight.strip().strip("0.")
