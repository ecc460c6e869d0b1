"""How the node authenticates itself to a DICOMweb service (RFC 6749 4.4, RFC 6750, RFC 7617)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from urllib.parse import quote

import httpx

from dicomnode.errors import WebError, WebRefused, WebUnreachable

Secret = Callable[[], str]
"""Yields the secret as it is now, so that it can be changed while the node runs. Never printed."""
UNAUTHORIZED = 401
_MARGIN_S = 10.0
_SHORTEST_S = 1.0
_UNSAID_S = 60.0
"""A token whose life the server does not tell is used for so long."""


class Basic(httpx.Auth):
    """A user and a password (RFC 7617)."""

    def __init__(self, user: str, password: Secret) -> None:
        self._user, self._password = user, password

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Set the header."""
        yield from httpx.BasicAuth(self._user, self._password()).sync_auth_flow(request)


class Bearer(httpx.Auth):
    """A token that somebody else renews (RFC 6750)."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Set the header."""
        request.headers["Authorization"] = f"Bearer {self._token()}"
        yield request


class ClientCredentials(httpx.Auth):
    """Tokens of an OAuth 2.0 server for the node itself (RFC 6749 4.4).

    One is kept until it expires, and fetched anew once where the service answers 401 all the same.
    """

    def __init__(
        self, client: httpx.Client, token_url: str, client_id: str, secret: Secret, scope: str
    ) -> None:
        self._client, self._token_url = client, token_url
        self._client_id, self._secret, self._scope = client_id, secret, scope
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Set the header; once more with a fresh token after a 401. Raises WebError."""
        token = self._valid(not_this="")
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == UNAUTHORIZED:
            request.headers["Authorization"] = f"Bearer {self._valid(not_this=token)}"
            yield request

    def _valid(self, not_this: str) -> str:
        with self._lock:
            if self._token in ("", not_this) or time.monotonic() >= self._until:
                self._token, life_s = self._fetched()
                self._until = time.monotonic() + max(_SHORTEST_S, life_s - _MARGIN_S)
            return self._token

    def _fetched(self) -> tuple[str, float]:
        # Both are form-encoded before they become a user and a password (RFC 6749 2.3.1).
        auth = httpx.BasicAuth(quote(self._client_id, safe=""), quote(self._secret(), safe=""))
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        try:
            response = self._client.post(self._token_url, data=form, auth=auth)
        except httpx.HTTPError as error:
            raise WebUnreachable(f"the token server did not answer: {type(error).__name__}") from None
        if response.status_code != httpx.codes.OK:
            raise WebRefused(response.status_code)
        try:
            answer = response.json()
            return str(answer["access_token"]), float(answer.get("expires_in", _UNSAID_S))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise WebError("the token server's answer holds no token") from None
