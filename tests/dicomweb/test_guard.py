"""Every request says who it is from, where the configuration wants to know."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address
from threading import Event

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from sqlalchemy import select
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dicomnode.config import load_config
from dicomnode.dicomweb import tokens
from dicomnode.dicomweb.app import Admission, WebSettings, create_app
from dicomnode.dicomweb.guard import Guard
from dicomnode.dicomweb.guesses import ANOTHER_S, AT_ONCE, TOLD_AGAIN_S, Guesses
from dicomnode.dicomweb.rate import Address
from dicomnode.dicomweb.server import WebServer
from dicomnode.dicomweb.tokens import Tokens, TokenSettings, keys_at
from dicomnode.errors import (
    ConfigError,
    KeysAway,
    NotEntitled,
    RequestError,
    TooManyGuesses,
    Unauthorized,
)
from dicomnode.installation import open_stores
from dicomnode.model.passcode import hash_passcode
from dicomnode.node import check
from dicomnode.roles.web import open_guard, run_web, web_routes
from dicomnode.store.schema import audit
from tests.dicomweb.web import SETTINGS
from tests.harness.nodes import wait_for
from tests.peers import free_port

ISSUER, AUDIENCE = "https://login.example/realms/hospital", "dicomnode"
SIGNER, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
CURVE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = SIGNER.public_key()


def key_set() -> str:
    keys = [
        RSAAlgorithm.to_jwk(PUBLIC, as_dict=True) | {"kid": "1", "use": "sig", "alg": "RS256"},
        ECAlgorithm.to_jwk(CURVE.public_key(), as_dict=True) | {"kid": "2", "use": "sig", "alg": "ES256"},
    ]
    return json.dumps({"keys": keys})


HERE, ELSEWHERE = ip_address("10.0.0.1"), ip_address("10.0.0.2")
PATIENT = Guesses(lambda _: None, at_once=1000)
"""Most of these tests send wrong credentials."""
DAY_S = 86_400
"""Tokens of parameters are made long before they are used."""


def token(key: object = SIGNER, algorithm: str | None = "RS256", kid: str = "1", **claims: object) -> str:
    usual = {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + DAY_S, "sub": "viewer"}
    held = {name: value for name, value in (usual | claims).items() if value is not None}
    return jwt.encode(held, key, algorithm, headers={"kid": kid})


def tokens_of(role: str = "", claim: str = "roles", read: Callable[[], str] = key_set) -> Tokens:
    return Tokens(TokenSettings(ISSUER, AUDIENCE, role, claim), read)


def test_a_token_of_the_issuer_is_taken_by_either_of_its_keys():
    taken = tokens_of()
    taken.require(token())
    taken.require(token(CURVE, "ES256", "2"))
    taken.require(token(aud=["other", AUDIENCE]))


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x.y.z",
        token(exp=time.time() - 300),
        token(exp=None),
        token(nbf=time.time() + DAY_S / 2),
        token(aud="another"),
        token(aud=None),
        token(iss="https://evil.example"),
        token(iss=None),
        token(OTHER),
        token(kid="3"),
        token(None, None),
        token("0" * 64, "HS256"),
        token()[:-4] + "AAAA",
    ],
    ids=[
        *("nothing", "no token", "expired", "endless", "not yet", "audience", "no audience", "issuer"),
        *("no issuer", "another's key", "unknown key", "alg none", "shared secret", "signature"),
    ],
)
def test_a_token_that_proves_nothing_is_not_taken(bad: str):
    with pytest.raises(Unauthorized):
        tokens_of().require(bad)


@pytest.mark.parametrize(
    ("claim", "claims"),
    [
        ("roles", {"roles": ["reader", "ai"]}),
        ("scope", {"scope": "openid ai"}),
        ("realm_access.roles", {"realm_access": {"roles": ["ai"]}}),
    ],
)
def test_a_token_needs_the_role_where_one_is_asked_for(claim: str, claims: dict[str, object]):
    tokens_of("ai", claim).require(token(**claims))
    for others in ({}, {claim.partition(".")[0]: ["reader"]}, {"roles": {"ai": 1}}):
        with pytest.raises(NotEntitled):
            tokens_of("ai", claim).require(token(**others))


def test_keys_are_read_again_for_a_new_one_but_not_for_every_token(monkeypatch):
    read: list[int] = []

    def keys() -> str:
        read.append(1)
        return key_set() if len(read) > 1 else json.dumps({"keys": json.loads(key_set())["keys"][1:]})

    taken = tokens_of(read=keys)
    for _ in range(3):
        with pytest.raises(Unauthorized):
            taken.require(token())
    assert len(read) == 1
    monkeypatch.setattr(tokens, "KEYS_PAUSE_S", 0.0)
    taken.require(token())
    taken.require(token())
    assert len(read) == 2


def test_keys_that_cannot_be_had_are_not_the_clients_fault():
    for read in (keys_at(f"http://127.0.0.1:{free_port()}/certs"), lambda: "no keys", lambda: '{"keys": 5}'):
        with pytest.raises(KeysAway):
            tokens_of(read=read).require(token())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """All that a node serves, with a user and with tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "config.toml").write_text("[pipelines]\nfolder = 'none'\n")
    (folder / "none").mkdir()
    config = load_config(folder / "config.toml", {})
    stores = open_stores(config)
    stores.database.upgrade()
    guard = Guard({"viewer": hash_passcode("right")}, tokens_of("ai").require, PATIENT)
    settings = WebSettings(SETTINGS.path, (Admission("*", SETTINGS.accept[0].network),), guard=guard)
    server = WebServer(create_app(settings, web_routes(config, stores)), "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}{SETTINGS.path}"
    server.stop(1)
    stores.database.close()


def test_nothing_is_served_to_who_does_not_say_who_it_is(guarded: str):
    with httpx.Client() as client:
        described = client.get(f"{guarded}/openapi.json", auth=("viewer", "right")).json()["paths"]
        asked = [(method, path) for path, methods in described.items() for method in methods]
        assert len(asked) > 40
        for method, path in [*asked, ("get", "/nowhere")]:
            if path == "/subscribers/{ae}":
                continue
            answer = client.request(method, guarded + path, content=b"x" if method == "post" else None)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == (
                'Bearer realm="dicomnode", Basic realm="dicomnode", charset="UTF-8"'
            )


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (None, 401),
        ("Bearer " + token(roles=["ai"]), 200),
        ("bearer " + token(roles=["reader"]), 403),
        ("Bearer " + token(roles=["ai"], exp=time.time() - 300), 401),
        ("Basic dmlld2VyOnJpZ2h0", 200),
        ("basic dmlld2VyOnJpZ2h0", 200),
        ("Basic dmlld2VyOndyb25n", 401),
        ("Basic bm9ib2R5OnJpZ2h0", 401),
        ("Basic %%%", 401),
        ("Basic", 401),
        ("Digest dmlld2VyOnJpZ2h0", 401),
    ],
    ids=["nothing", "token", "role", "expired", "user", "case", "wrong", "nobody", "junk", "empty", "scheme"],
)
def test_who_may_ask_is_answered_by_http_and_by_websocket(guarded: str, said: str | None, status: int):
    headers = {"Authorization": said} if said else {}
    for _ in range(2):
        answer = httpx.get(f"{guarded}/openapi.json", headers=headers)
        assert answer.status_code == status
        assert ("www-authenticate" in answer.headers) == (status == 401)
    url = guarded.replace("http", "ws") + "/subscribers/VIEWER"
    if status == 200:
        with connect(url, additional_headers=headers):
            return
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers):
        pass
    assert refused.value.response.status_code == status


def test_who_guesses_has_to_wait_and_is_told_of_and_nobody_else_is():
    told: list[str] = []
    now = [0.0]
    guesses = Guesses(told.append, clock=lambda: now[0])
    guard = Guard({"viewer": hash_passcode("right")}, tokens_of("ai").require, guesses)
    right, wrong = "Basic dmlld2VyOnJpZ2h0", "Basic dmlld2VyOndyb25n"
    for address, said, limit in ((HERE, wrong, AT_ONCE), (ELSEWHERE, "Bearer x", AT_ONCE - 1)):
        guard_refuses(guard, said, address, Unauthorized, limit)
    guard_refuses(guard, wrong, HERE, TooManyGuesses, 3)
    guard_refuses(guard, right, HERE, TooManyGuesses)
    assert told == ["10.0.0.1"]
    guard(right, ELSEWHERE)
    guard(right, HERE)
    guard("Bearer " + token(roles=["ai"]), HERE)
    guard_refuses(guard, "", HERE, Unauthorized, AT_ONCE)
    guard_refuses(guard, "Bearer x", HERE, TooManyGuesses)
    now[0] = ANOTHER_S
    guard_refuses(guard, wrong, HERE, Unauthorized)
    guard_refuses(guard, wrong, HERE, TooManyGuesses)
    assert told == ["10.0.0.1"]
    now[0] = TOLD_AGAIN_S
    guard_refuses(guard, wrong, HERE, Unauthorized, AT_ONCE)
    guard_refuses(guard, wrong, HERE, TooManyGuesses)
    assert told == ["10.0.0.1"] * 2


def guard_refuses(
    guard: Guard, said: str, address: Address, error: type[RequestError], times: int = 1
) -> None:
    for _ in range(times):
        with pytest.raises(error):
            guard(said, address)


def test_guessing_is_429_and_in_the_audit_trail(tmp_path):
    (tmp_path / "none").mkdir()
    user = f'users = [{{ name = "viewer", passcode = "{hash_passcode("right")}" }}]'
    (tmp_path / "config.toml").write_text(
        f"[pipelines]\nfolder = 'none'\n[web]\nport = {free_port()}\n{user}\n"
    )
    config = load_config(tmp_path / "config.toml", {})
    stores = open_stores(config)
    stores.database.upgrade()
    stop = Event()
    with ThreadPoolExecutor() as threads:
        served = threads.submit(run_web, config, stores, "web", stop)
        url = f"http://127.0.0.1:{config.web.port}/dicom-web/studies"
        wait_for("an answer", lambda: answers(url))
        # One more is looked at each few seconds: how many that are depends on the machine.
        wait_for("no more of it", lambda: httpx.get(url, auth=("viewer", "wrong")).status_code == 429)
        stop.set()
        assert served.result() == 0
    with stores.database.read() as tx:
        assert [(row.event, row.facts) for row in tx.execute(select(audit))] == [
            ("credentials_guessed", {"address": "127.0.0.1"})
        ]
    stores.database.close()


def answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url).status_code == 401
    return False


def test_users_and_tokens_of_the_configuration_are_asked_for(tmp_path):
    config = tmp_path / "site.toml"
    (tmp_path / "none").mkdir()
    (tmp_path / "keys.json").write_text(key_set())
    common = "[pipelines]\nfolder = 'none'\n[web]\n"

    def guard(text: str) -> Guard | None:
        config.write_text(common + text)
        loaded = load_config(config, {})
        check(loaded, config)
        return open_guard(loaded, lambda _: None)

    assert guard("") is None
    by_name = guard(f"users = [{{ name = 'viewer', passcode = '{hash_passcode('right')}' }}]")
    by_name("Basic dmlld2VyOnJpZ2h0", HERE)
    whole = f"[web.tokens]\nissuer = '{ISSUER}'\naudience = '{AUDIENCE}'\n"
    guard(whole + "keys_file = 'keys.json'")("Bearer " + token(), HERE)
    guard(whole + "keys_url = 'https://login.example/certs'")
    for half, said in (
        ("users = [{ name = 'viewer' }]", "passcode"),
        ("users = [{ name = 'viewer', passcode = 'plain' }]", "hashed"),
        (f"[web.tokens]\nissuer = '{ISSUER}'", "audience"),
        ("[web.tokens]\nkeys_file = 'keys.json'", "issuer"),
        (whole, "keys"),
        (whole + "keys_file = 'site.toml'", "keys_file"),
        (whole + "keys_file = 'nowhere.json'", "keys_file"),
        (whole + "keys_url = 'https://login.example/certs'\nca_file = 'nowhere.pem'", "ca_file"),
    ):
        with pytest.raises(ConfigError, match=said) as raised:
            guard(half)
        assert raised.value.file == str(config)
