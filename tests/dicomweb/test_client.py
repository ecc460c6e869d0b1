"""STOW-RS and QIDO-RS as a user agent, before real HTTP: what answers mean, and how we say who we are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.dicomweb.authentication import Basic, Bearer, ClientCredentials
from dicomnode.dicomweb.client import ANSWER_LIMIT, WebClient
from dicomnode.errors import WebError, WebRefused, WebStoreRefused, WebUnreachable
from dicomnode.model.result import OutgoingInstance
from tests.dicomweb.services import WebArchive, sequence
from tests.dimse.nodes import small_ct, write
from tests.peers import free_port

STUDY, SERIES = "1.2.3", "1.2.3.4"


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    archive = WebArchive()
    yield archive
    archive.close()


@pytest.fixture
def instances(tmp_path: Path) -> list[OutgoingInstance]:
    return [write(small_ct(SeriesInstanceUID=SERIES), tmp_path) for _ in range(3)]


def client_of(archive: WebArchive, auth=None) -> WebClient:
    return WebClient(archive.url, archive.client(), auth)


def outcomes(client: WebClient, instances: list[OutgoingInstance]) -> list[WebError | None]:
    said: list[WebError | None] = []
    client.send(instances, lambda _, error: said.append(error), lambda: False)
    return said


def test_each_instance_arrives_byte_for_byte_and_is_listed(archive, instances):
    client = client_of(archive)
    assert outcomes(client, instances) == [None] * 3
    assert [archive.stored[each.SOPInstanceUID] for each in instances] == [
        Path(each.path).read_bytes() for each in instances
    ]
    assert client.listed_instances(STUDY, SERIES) == {each.SOPInstanceUID for each in instances}
    assert {path.split("?")[0] for _, path, _ in archive.requests} == {
        "/dicom-web/studies",
        f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances",
    }


@pytest.mark.parametrize("answer", [(204, None), (200, [])])
def test_no_match_is_an_empty_list_or_no_content(archive, answer):
    archive.on_search = lambda: answer
    assert client_of(archive).listed_instances(STUDY, SERIES) == frozenset()


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_service_that_lists_less_than_was_asked_for_is_asked_on(archive, instances, page):
    archive.page = page
    client = client_of(archive)
    outcomes(client, instances)
    assert len(client.listed_instances(STUDY, SERIES)) == 3


def test_a_service_that_ignores_offsets_and_lists_other_series_is_understood(archive):
    matches = [
        {"00080018": {"vr": "UI", "Value": ["1.1"]}, "0020000E": {"vr": "UI", "Value": [SERIES]}},
        {"00080018": {"vr": "UI", "Value": ["1.2"]}, "0020000E": {"vr": "UI", "Value": ["9.9"]}},
        {"00080018": {"vr": "UI"}},
        "nonsense",
    ]
    archive.on_search = lambda: (200, matches)
    assert client_of(archive).listed_instances(STUDY, SERIES) == {"1.1"}


@pytest.mark.parametrize(
    "answer", [(404, None), (500, b"<html>"), (200, b"<html>"), (200, {"a": 1}), (302, None)]
)
def test_what_is_no_list_is_never_taken_for_an_empty_one(archive, answer):
    archive.on_search = lambda: answer
    with pytest.raises(WebError):
        client_of(archive).listed_instances(STUDY, SERIES)


def test_the_answer_is_read_for_the_instance_and_not_by_its_status(archive, instances):
    first, second, third = (each.SOPInstanceUID for each in instances)
    answers = {
        first: (200, {"00081198": sequence(first, 0xA700)}),
        second: (400, {"00081199": sequence(second)}),
        third: (409, [{"00081198": sequence(third, 0x0111)}]),
    }
    archive.on_store = answers.get
    refused, taken, duplicate = outcomes(client_of(archive), instances)
    assert isinstance(refused, WebStoreRefused)
    assert refused.status == 0xA700
    assert taken is None
    assert isinstance(duplicate, WebStoreRefused)
    assert duplicate.status == 0x0111


@pytest.mark.parametrize(
    ("status", "taken"), [(200, True), (202, True), (400, False), (409, False), (503, False)]
)
def test_an_answer_that_names_no_instance_counts_by_its_status(archive, instances, status, taken):
    archive.on_store = lambda _: (status, b"<html>")
    (outcome, *_) = outcomes(client_of(archive), instances[:1])
    if taken:
        assert outcome is None
    else:
        assert isinstance(outcome, WebRefused)
        assert outcome.status == status


def test_a_success_that_lists_nothing_stored_is_none(archive, instances):
    archive.on_store = lambda _: (200, {"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}})
    (outcome,) = outcomes(client_of(archive), instances[:1])
    assert isinstance(outcome, WebStoreRefused)


def test_who_cannot_be_reached_is_tried_once_for_all(archive, instances):
    client = WebClient(f"http://127.0.0.1:{free_port()}/dicom-web", archive.client())
    said = outcomes(client, instances)
    assert len(said) == 3
    assert all(isinstance(error, WebUnreachable) for error in said)
    with pytest.raises(WebUnreachable):
        client.listed_instances(STUDY, SERIES)


def test_who_is_silent_is_left_after_the_time_limit(archive, instances):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = WebClient(f"http://127.0.0.1:{silent.getsockname()[1]}", archive.client(0.2))
        (error,) = outcomes(client, instances[:1])
    assert isinstance(error, WebUnreachable)
    assert "ReadTimeout" in str(error)


def test_once_stopped_nothing_further_is_offered(archive, instances):
    said: list[OutgoingInstance] = []
    client_of(archive).send(instances, lambda instance, _: said.append(instance), lambda: bool(said))
    assert said == instances[:1]
    assert len(archive.stored) == 1


def test_a_file_that_is_gone_is_told_and_the_others_are_sent(archive, instances):
    Path(instances[0].path).unlink()
    missing, *others = outcomes(client_of(archive), instances)
    assert isinstance(missing, WebError)
    assert others == [None, None]


def test_an_endless_answer_is_cut(archive, monkeypatch):
    monkeypatch.setattr("dicomnode.dicomweb.client.ANSWER_LIMIT", 1000)
    assert ANSWER_LIMIT > 1000
    archive.on_search = lambda: (200, b"[" + b" " * 5000 + b"]")
    with pytest.raises(WebError, match="longer"):
        client_of(archive).listed_instances(STUDY, SERIES)


def oauth2(archive: WebArchive) -> WebClient:
    archive.token_needed = True
    tokens = ClientCredentials(
        archive.client(), f"{archive.origin}/token", "node", lambda: "s:e/c ret", "store"
    )
    return client_of(archive, tokens)


def test_one_token_serves_until_it_expires(archive, instances):
    assert outcomes(oauth2(archive), instances) == [None] * 3
    form = {"grant_type": ["client_credentials"], "scope": ["store"]}
    assert archive.token_requests == [("node", "s:e/c ret", form)]


def test_a_token_that_has_expired_is_replaced_before_it_is_refused(archive, instances, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("dicomnode.dicomweb.authentication.time.monotonic", lambda: now[0])
    client = oauth2(archive)
    archive.token_life_s = 60.0
    outcomes(client, instances[:1])
    now[0] += 49.0
    outcomes(client, instances[1:2])
    assert len(archive.token_requests) == 1
    now[0] += 2.0
    outcomes(client, instances[2:])
    assert len(archive.token_requests) == 2
    assert len(archive.requests) == 3


def test_a_token_that_is_refused_is_replaced_once_and_the_whole_body_sent_again(archive, instances):
    client = oauth2(archive)
    outcomes(client, instances[:1])
    archive.tokens.clear()
    assert outcomes(client, instances[1:]) == [None, None]
    assert len(archive.token_requests) == 2
    assert [method for method, *_ in archive.requests] == ["POST"] * 4
    assert archive.stored[instances[1].SOPInstanceUID] == Path(instances[1].path).read_bytes()


def test_a_service_that_refuses_every_token_is_asked_twice_and_no_more(archive, instances):
    client = oauth2(archive)
    archive.on_token = lambda: (200, {"access_token": "never good"})
    (error,) = outcomes(client, instances[:1])
    assert isinstance(error, WebRefused)
    assert error.status == 401
    assert len(archive.requests) == 2


@pytest.mark.parametrize(
    "answer", [(401, {"error": "invalid_client"}), (200, b"<html>"), (200, []), (503, None)]
)
def test_a_token_server_without_a_token_fails_the_delivery_and_names_no_secret(archive, instances, answer):
    client = oauth2(archive)
    archive.on_token = lambda: answer
    (error,) = outcomes(client, instances[:1])
    assert isinstance(error, WebError)
    assert "s:e/c ret" not in str(error)
    assert archive.requests == []


def test_a_password_or_a_bearer_token_may_change_while_the_node_runs(archive):
    secrets = iter(["one", "two"])
    client = client_of(archive, Bearer(lambda: next(secrets)))
    for _ in range(2):
        client.listed_instances(STUDY, SERIES)
    client_of(archive, Basic("node", lambda: "pass word")).listed_instances(STUDY, SERIES)
    said = [headers["Authorization"] for *_, headers in archive.requests]
    assert said == ["Bearer one", "Bearer two", "Basic bm9kZTpwYXNzIHdvcmQ="]
