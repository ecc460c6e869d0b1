"""The conformance statement is in the order of PS3.2, and says what the node is put together of."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode import node
from dicomnode.config import Config
from dicomnode.dimse import status
from dicomnode.model.passcode import hash_passcode
from dicomnode.services.conformance.document import Statement
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.services.conformance.stated import Stated

ORDER = [
    "Conformance statement overview",
    "Table of contents",
    "Introduction",
    "Networking",
    "Media interchange",
    "Support of character sets",
    "Security",
    "Annexes",
]
NETWORKING = ["Implementation model", "AE specifications", "Network interfaces", "Configuration"]
SECRETS = ("hunter2", "tr0ub4dor", "/etc/keys", "scrypt", "postgresql")


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    write_toy_pipeline(folder)
    return folder


def stated(pipelines: Path, **sections: object) -> Stated:
    return Stated(statement(pipelines, **sections))


def statement(pipelines: Path, **sections: object) -> Statement:
    return node.conformance(Config.model_validate({"pipelines": {"folder": str(pipelines)}, **sections}))


def dimse(**more: object) -> dict[str, object]:
    return {"ae_title": "PACS", "host": "pacs.example", "port": 104, **more}


def test_the_sections_come_in_the_order_of_the_standard(pipelines):
    found = statement(pipelines)
    assert [section.title for section in found.sections] == ORDER
    assert [section.title for section in found.sections[3].sections] == NETWORKING


def test_the_table_of_contents_names_every_section(pipelines):
    found = statement(pipelines)
    numbers = [(number, section.title) for number, section in found.numbered()]
    assert Stated(found).rows("Sections") == [{"Number": number, "Title": title} for number, title in numbers]


def test_no_two_tables_have_the_same_title_and_no_cell_is_missing(pipelines):
    tables = [table for _, section in statement(pipelines).numbered() for table in section.tables]
    assert len({table.title for table in tables}) == len(tables)
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)


def test_every_status_that_this_node_knows_is_explained(pipelines):
    codes = {f"{code:04X}" for name, code in vars(status).items() if name.isupper() and isinstance(code, int)}
    codes |= {f"{code:04X}" for code in status.STATUS.values()}
    assert {row["Status"] for row in stated(pipelines).rows("Statuses that are answered")} == codes


def test_the_accepted_peers_stand_there_as_they_are_configured(pipelines):
    found = stated(
        pipelines, dimse={"accept": [{"ae_title": "CT1", "address": "10.1.0.0/16"}], "maximum_pdu": 65536}
    )
    assert found.rows("Accepted peers") == [{"Calling AE title": "CT1", "Addresses": "10.1.0.0/16"}]
    assert "65536 bytes as acceptor" in found.text


def test_what_is_not_configured_is_not_stated(pipelines):
    found = stated(pipelines)
    assert not any(title.startswith("Activity: deliver results") for title in found.sections)
    by_web = {"name": "cloud", "web": {"url": "https://cloud.example/dicom-web"}, "confirm": "qido"}
    found = stated(pipelines, destination=[by_web])
    assert "Activity: deliver results" not in found.sections
    assert "Activity: ask whether a result is listed" not in found.sections
    (row,) = found.rows("DICOMweb services of destinations")
    assert (row["Destination"], row["Transactions"]) == ("cloud", ("STOW-RS", "QIDO-RS"))


def test_a_label_map_is_stated_where_a_profile_asks_for_it(pipelines):
    destination = {"name": "pacs", "dimse": dimse(), "profile": "mine"}
    found = stated(pipelines, destination=[destination], profile={"mine": {"segmentation": "LABELMAP"}})
    created = {row["UID"]: row["Transfer syntaxes"] for row in found.rows("Created SOP instances")}
    assert "1.2.840.10008.5.1.4.1.1.66.4" not in created
    label_map = created["1.2.840.10008.5.1.4.1.1.66.7"]
    assert label_map[0] == "RLE Lossless (1.2.840.10008.1.2.5)"
    proposed = {row["UID"] for row in found.rows("Proposed presentation contexts: results")}
    assert proposed == set(created)


def test_no_secret_is_in_it(pipelines, monkeypatch):
    monkeypatch.setenv("DICOMNODE_SECRET_CLOUD", "tr0ub4dor")
    tls = {"certificate": "/etc/keys/c.pem", "key": "/etc/keys/k.pem", "ca": "/etc/keys/ca.pem"}
    found = stated(
        pipelines,
        database={"url": "postgresql+psycopg://node:hunter2@db/dicomnode"},
        dimse={
            "users": [{"name": "anna", "passcode": hash_passcode("hunter2")}, {"name": "robot"}],
            "tls": tls,
        },
        destination=[
            {"name": "pacs", "dimse": dimse(tls={"ca": "/etc/keys/ca.pem"})},
            {
                "name": "cloud",
                "web": {"url": "https://cloud.example", "user": "node", "secret_file": "/etc/keys/s"},
                "confirm": "none",
            },
        ],
    )
    everything = repr(found.statement)
    assert not [secret for secret in SECRETS if secret in everything]
    users = {
        row["Type (PS3.7 D.3.3.7)"]: row["Users"] for row in found.rows("User identities that are accepted")
    }
    assert (users["1, user name"], users["2, user name and passcode"]) == ("1", "1")


def test_the_same_settings_give_the_same_statement(pipelines):
    assert statement(pipelines) == statement(pipelines)


def test_nothing_is_left_behind_and_no_database_is_needed(pipelines, tmp_path):
    data = tmp_path / "data"
    statement(
        pipelines, node={"data": str(data)}, database={"url": "postgresql+psycopg://nobody@nowhere.invalid/x"}
    )
    assert not data.exists()
