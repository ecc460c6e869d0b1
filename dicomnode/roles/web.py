"""The HTTP listener: everything that is served, and its life."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from starlette.routing import BaseRoute

from dicomnode import __version__
from dicomnode.config import Config, WebTokensSection
from dicomnode.dicomweb import events, stow, ups
from dicomnode.dicomweb.app import Admission, WebSettings, create_app
from dicomnode.dicomweb.capabilities import described
from dicomnode.dicomweb.guard import Guard
from dicomnode.dicomweb.guesses import Guesses
from dicomnode.dicomweb.server import WebServer
from dicomnode.dicomweb.tokens import Tokens, TokenSettings, keys_at, keys_in
from dicomnode.errors import ConfigError, KeysAway
from dicomnode.installation import Stores, open_registry
from dicomnode.roles.watching import listener_name
from dicomnode.services.attendance import listening
from dicomnode.services.ingest import Ingest
from dicomnode.services.reading import reading_routes
from dicomnode.services.trail import record_alone
from dicomnode.services.workitems import WorkItems
from dicomnode.supervisor import EXIT_DISK

log = structlog.get_logger()


def run_web(config: Config, stores: Stores, name: str, stop: threading.Event) -> int:
    """Answers HTTP until told to stop, or until the disk fails: then a restart verifies it."""
    failed = threading.Event()

    def on_disk_failed() -> None:
        failed.set()
        stop.set()

    def note_guessing(address: str) -> None:
        record_alone(stores.database, "credentials_guessed", {"address": address})

    server = WebServer(
        create_app(web_settings(config, note_guessing), web_routes(config, stores), on_disk_failed),
        str(config.web.address),
        config.web.port,
        maximum_connections=config.web.maximum_connections,
        shared=config.web.processes > 1,
    )
    server.start()
    with listening(stores.database, f"{listener_name(config)}-{name}"):
        log.info("web.listening", port=server.port, address=str(config.web.address))
        stop.wait()
        server.stop(config.node.stop_limit_s * 0.8)
    return EXIT_DISK if failed.is_set() else 0


def web_routes(config: Config, stores: Stores) -> list[BaseRoute]:
    """Everything that is served under the base path, and what tells of it."""
    ingest = Ingest(stores.database, stores.objects, config.ingest.limits)
    items = WorkItems(stores.database, open_registry(config), config)
    routes = [
        *stow.routes(ingest, config.node.ae_title),
        *reading_routes(stores.database, stores.objects),
        *ups.routes(items),
        *events.routes(items),
    ]
    return described(routes, __version__)


def open_guard(config: Config, note_guessing: Callable[[str], None]) -> Guard | None:
    """Who asks that, and may; None where nobody is asked. Raises ConfigError where keys cannot be read.

    `note_guessing` is told the address from which credentials are guessed.
    """
    guesses = Guesses(note_guessing)
    users = {user.name: user.passcode for user in config.web.users}
    if not config.web.tokens.issuer:
        return Guard(users, None, guesses) if users else None
    return Guard(users, _tokens(config.web.tokens, config.file).require, guesses)


def _tokens(section: WebTokensSection, file: Path) -> Tokens:
    settings = TokenSettings(section.issuer, section.audience, section.role, section.roles_claim)
    try:
        if not section.keys_file:
            # Where the provider is away, the node starts all the same: its users know by 503.
            return Tokens(settings, keys_at(section.keys_url, section.ca_file))
        tokens = Tokens(settings, keys_in(section.keys_file))
        tokens.look()
    except OSError as error:
        raise ConfigError(file, [f"web.tokens.ca_file cannot be read: {type(error).__name__}"]) from None
    except KeysAway:
        problem = "web.tokens.keys_file is no JSON Web Key Set that can be read"
        raise ConfigError(file, [problem]) from None
    return tokens


def web_settings(config: Config, note_guessing: Callable[[str], None]) -> WebSettings:
    """`[web]` as the application takes it; `note_guessing` as for the guard."""
    named = (*config.web.host_names, socket.gethostname(), urlsplit(config.web.public_url).hostname or "")
    return WebSettings(
        path=config.web.path,
        accept=tuple(Admission(entry.ae_title, entry.address) for entry in config.web.accept),
        cors_origins=config.web.cors_origins,
        host_names=frozenset(name.lower() for name in named if name),
        public_url=config.web.public_url,
        maximum_request=config.web.maximum_request_mb * 1_000_000,
        body_timeout_s=config.web.body_timeout_s,
        requests_per_second=config.web.requests_per_second,
        guard=open_guard(config, note_guessing),
    )
