"""A courier whose destination speaks DICOMweb: sent by STOW-RS, confirmed by QIDO-RS, with a secret."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from dicomnode.config import Config, DeliverySection, Destination
from dicomnode.errors import ConfigError
from dicomnode.services.destinations import courier_for
from dicomnode.services.secrets import read_secret, require_safe_secret
from dicomnode.store.schema import result
from tests.dicomweb.services import WebArchive, sequence
from tests.peers import wait_for
from tests.services.test_delivery import outbox, states

__all__ = ["outbox"]

SETTINGS = DeliverySection(backoff_s=0.01, backoff_limit_s=0.01, confirm_checks=1)


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    archive = WebArchive()
    yield archive
    archive.close()


def destination_of(**web: object) -> Destination:
    return Destination.model_validate({"name": "pacs", "confirm": "qido", "web": web})


def courier_of(outbox, archive, **web: object):
    destination = destination_of(url=archive.url, **web)
    return courier_for(outbox.database, outbox.objects, destination, "NODE", SETTINGS)


def test_what_is_stored_is_confirmed_once_it_is_listed(outbox, archive):
    courier = courier_of(outbox, archive)
    wait_for(lambda: courier.tick() and states(outbox) == [("confirmed", 1)] * 3)
    assert len(archive.stored) == 3


def test_an_answer_of_success_that_was_a_lie_is_found_out_and_sent_again(outbox, archive):
    lies = iter([(200, {})])
    archive.on_store = lambda _: next(lies, None)
    courier = courier_of(outbox, archive)
    wait_for(lambda: courier.tick() and {state for state, _ in states(outbox)} == {"confirmed"})
    assert sorted(attempt for _, attempt in states(outbox)) == [1, 1, 2]


def test_an_archive_that_is_busy_gets_it_later(outbox, archive):
    answers = iter([(503, None)] * 3)
    archive.on_store = lambda _: next(answers, None)
    courier = courier_of(outbox, archive)
    courier.tick()
    assert states(outbox) == [("retry_wait", 1)] * 3
    wait_for(lambda: courier.tick() and states(outbox) == [("confirmed", 2)] * 3)


def test_a_duplicate_is_asked_about_and_not_sent_for_ever(outbox, archive):
    with outbox.database.read() as tx:
        series = dict(tx.execute(select(result.c.SOPInstanceUID, result.c.SeriesInstanceUID)).all())

    def duplicate(uid: str):
        archive.series[uid] = series[uid]
        return 409, {"00081198": sequence(uid, 0x0111)}

    archive.on_store = duplicate
    courier = courier_of(outbox, archive)
    wait_for(lambda: courier.tick() and states(outbox) == [("confirmed", 1)] * 3)


def test_a_search_that_fails_confirms_nothing_and_misses_nothing(outbox, archive):
    archive.on_search = lambda: (500, None)
    courier = courier_of(outbox, archive)
    wait_for(lambda: courier.tick() and any(method == "GET" for method, *_ in archive.requests))
    assert states(outbox) == [("sent", 1)] * 3


def test_a_secret_comes_from_the_environment_or_from_a_file_that_may_change(tmp_path):
    environment = {"DICOMNODE_SECRET_PACS": "one"}
    assert read_secret(destination_of(url="https://a", user="u"), environment) == "one"
    file = tmp_path / "secret"
    file.write_text("two\n")
    from_file = destination_of(url="https://a", user="u", secret_file=str(file))
    assert read_secret(from_file, environment) == "two"
    file.write_text("three")
    assert read_secret(from_file, environment) == "three"


@pytest.mark.parametrize(
    ("web", "told"),
    [
        ({"url": "https://a", "user": "u"}, "DICOMNODE_SECRET_PACS is not set"),
        ({"url": "https://a", "user": "u", "secret_file": "/no/such/file"}, "secret_file cannot be read"),
    ],
)
def test_a_secret_that_is_needed_and_cannot_be_had_stops_the_start(web, told):
    with pytest.raises(ConfigError, match=told):
        require_safe_secret(destination_of(**web), {})


@pytest.mark.parametrize(
    ("web", "safe"),
    [
        ({"url": "http://127.0.0.1/w", "user": "u"}, True),
        ({"url": "http://localhost/w", "user": "u"}, True),
        ({"url": "https://archive.example/w", "user": "u"}, True),
        ({"url": "http://archive.example/w", "user": "u"}, False),
        ({"url": "http://archive.example/w"}, False),
        ({"url": "https://archive.example/w", "token_url": "http://login.example", "client_id": "n"}, False),
    ],
)
def test_a_secret_never_crosses_a_network_as_plain_text(web, safe):
    environment = {"DICOMNODE_SECRET_PACS": "s3cret"}
    if safe:
        require_safe_secret(destination_of(**web), environment)
    else:
        with pytest.raises(ConfigError, match="plain text") as raised:
            require_safe_secret(destination_of(**web), environment)
        assert "s3cret" not in str(raised.value)


DIMSE = {"ae_title": "PACS", "host": "pacs", "port": 104}
WEB = {"url": "https://pacs.example/dicom-web"}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({}, "neither dimse nor web"),
        ({"web": WEB}, "asks by dimse"),
        ({"web": WEB, "confirm": "commitment"}, "asks by dimse"),
        ({"dimse": DIMSE, "confirm": "qido"}, "asks by web"),
        ({"web": {**WEB, "token_url": "https://login.example"}, "confirm": "qido"}, "belong together"),
        ({"web": {"url": "ftp://pacs.example"}, "confirm": "qido"}, "not an https or http URL"),
        ({"web": {"url": "https://u:p@pacs.example"}, "confirm": "qido"}, "no user, password"),
    ],
)
def test_a_destination_that_could_not_work_is_named_at_the_start(entry, told):
    with pytest.raises(ValueError, match=told):
        Config.model_validate({"destination": [{"name": "pacs", **entry}]})


def test_a_peer_is_found_by_its_title_among_peers_and_destinations():
    config = Config.model_validate(
        {
            "peer": [{"ae_title": "CT1", "host": "ct", "port": 104}],
            "destination": [{"name": "pacs", "dimse": DIMSE}],
        }
    )
    assert [config.peer_named(title) and config.peer_named(title).host for title in ("CT1", "PACS", "X")] == [
        "ct",
        "pacs",
        None,
    ]
