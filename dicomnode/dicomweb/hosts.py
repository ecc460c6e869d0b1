"""By which names the node may be called: a page elsewhere must not reach it by a name of its own.

A browser asks for a page's own host without more ado. Who owns a name can have it resolved to the address
of a server that only this browser reaches ("DNS rebinding"); the Host header still says that name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)]|([^:\[\]]*))(?::[0-9]*)?")
_LOOPBACK = "localhost"


def is_own_host(host: str, names: Collection[str]) -> bool:
    """True where a Host header (RFC 9110 7.2) has an address, localhost, or one of `names`, in lower case."""
    found = _HOST.fullmatch(host.strip().lower())
    if found is None:
        return False
    name = (found[1] or found[2]).rstrip(".")
    return name in names or name == _LOOPBACK or name.endswith(f".{_LOOPBACK}") or _is_address(name)


def is_own_page(origin: str, host: str | None, names: Collection[str]) -> bool:
    """True where a page of this origin (RFC 6454 7) is of the host that is asked, or of one of `names`."""
    try:
        page = urlsplit(origin)
    except ValueError:
        return False
    return bool(page.netloc) and (page.netloc == host or page.hostname in names)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
