"""The secrets of destinations: from the environment or from a file, never from `config.toml`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from dicomnode.config import Destination
from dicomnode.errors import ConfigError


def read_secret(destination: Destination, environment: Mapping[str, str] = os.environ) -> str:
    """The password, client secret or bearer token as it is now; empty where there is none.

    Raises ConfigError where the configuration needs one and it cannot be had.
    """
    web = destination.web
    if web is None:
        return ""
    secret = environment.get(destination.secret_variable, "")
    if web.secret_file:
        try:
            secret = Path(web.secret_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            problem = f"secret_file cannot be read: {type(error).__name__}"
            raise ConfigError(f"destination {destination.name!r}", [problem]) from None
    if not secret and (web.user or web.token_url):
        raise ConfigError(f"destination {destination.name!r}", [f"{destination.secret_variable} is not set"])
    return secret


def require_safe_secret(destination: Destination, environment: Mapping[str, str] = os.environ) -> None:
    """Raises ConfigError where a secret is missing, or would go over a network as plain text."""
    web = destination.web
    if web is None or not read_secret(destination, environment):
        return
    for url in filter(None, (web.url, web.token_url)):
        parts = urlsplit(url)
        if parts.scheme != "https" and not _is_this_machine(parts.hostname or ""):
            problem = f"the secret would go to {parts.hostname} as plain text: use https"
            raise ConfigError(f"destination {destination.name!r}", [problem])


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
