"""Cases 58, 59, 66, 69 and 70: what is wrong or unsafe in config.toml stops the start, and is named."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.config import load_config
from dicomnode.errors import ConfigError, RuleError
from dicomnode.model.passcode import hash_passcode
from dicomnode.rules.rule import Rule
from tests.peers import free_port

FACTS = {"series": {"description": "a" * 64 + "!"}}
DIMSE = 'dimse = { ae_title = "A", host = "pacs.example", port = 104 }'


SECRETS = f"""
[database]
url = "postgresql+psycopg://node:{{}}@127.0.0.1:{free_port()}/none"
[web]
users = [{{{{ name = "viewer", passcode = "{{}}" }}}}]
[pipelines]
folder = "none"
[[destination]]
name = "cloud"
web = {{{{ url = "https://cloud.example/dicom-web", user = "node", secret_file = "secret" }}}}
confirm = "qido"
"""


def problem(folder: Path, text: str) -> str:
    file = folder / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_config(file, {})
    return str(raised.value)


@pytest.mark.parametrize(
    "title", ["SEVENTEEN-LETTERS", "", " A", "A\\u001b[1m", "A\\u0000", "Ä", "A\\\\B", "A\\r\\nB"]
)
@pytest.mark.parametrize(
    "place",
    [
        '[node]\nae_title = "{}"\n',
        '[dimse]\naccept = [{{ ae_title = "{}", address = "10.0.0.0/8" }}]\n',
        '[[peer]]\nae_title = "{}"\nhost = "h"\nport = 1\n',
    ],
    ids=["node", "accept", "peer"],
)
def test_58_what_is_no_ae_title_is_refused(tmp_path, place, title):
    assert "an AE title has" in problem(tmp_path, place.format(title))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[peer]]\nae_title = "A"\nhost = "h"\nport = 1\n' * 2, "two peers are called 'A'"),
        (f'[[destination]]\nname = "a"\n{DIMSE}\n' * 2, "two destinations are called 'a'"),
    ],
)
def test_58_a_name_that_is_given_twice_is_refused(tmp_path, text, told):
    assert told in problem(tmp_path, text)


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "::", "224.0.0.1"],
)
def test_59_an_address_that_is_no_peers_is_refused(tmp_path, host):
    dimse = DIMSE.replace("pacs.example", host)
    assert "is the address of no peer" in problem(tmp_path, f'[[destination]]\nname = "a"\n{dimse}\n')
    url = f"https://[{host}]/x" if ":" in host else f"https://{host}/x"
    web = f'[[destination]]\nname = "a"\nconfirm = "none"\nweb = {{ url = "{url}" }}\n'
    assert "is the address of no peer" in problem(tmp_path, web)


@pytest.mark.parametrize("port", ["0", "65536", "-1", '"104"', "1e3"])
def test_59_a_port_that_is_none_is_refused(tmp_path, port):
    dimse = DIMSE.replace("104", port)
    assert "port: Input should be" in problem(tmp_path, f'[[destination]]\nname = "a"\n{dimse}\n')


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "https://u:p@h/", "ftp://h/", "https:///x", "https://h/?a=b"]
)
def test_59_a_url_of_another_kind_is_refused(tmp_path, url):
    web = f'[[destination]]\nname = "a"\nconfirm = "none"\nweb = {{ url = "{url}" }}\n'
    assert "web.url" in problem(tmp_path, web)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(a|a?)+$", "(.*a){30}"])
def test_66_a_catastrophic_regular_expression_costs_next_to_nothing(pattern):
    began = time.monotonic()
    Rule(f'series.description.matches("{pattern}")').holds(FACTS)
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("pattern", ["((a{1000}){1000}){1000}", "(?:x{0,999}){999}{999}"])
def test_66_a_regular_expression_that_would_not_fit_is_refused(pattern):
    began = time.monotonic()
    with pytest.raises(RuleError):
        Rule(f'series.description.matches("{pattern}")')
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[dimse]\nmaximum_asociations = 5\n", "did you mean 'maximum_associations'?"),
        ('[dimse]\naddress = "0.0.0.0"\naccept = [{ ae_title = "*", address = "0.0.0.0/0" }]\n', "everybody"),
        ('[web]\naddress = "::"\naccept = [{ ae_title = "*", address = "::/0" }]\n', "everybody"),
        ("[ingest]\nmaximum_depth = 0\n", "ingest.maximum_depth: Input should be greater"),
        (
            "[dimse]\nmaximum_associations_per_peer = 0\n",
            "maximum_associations_per_peer: Input should be greater",
        ),
    ],
)
def test_70_an_unknown_key_an_insecure_address_and_no_limit_stop_the_start(tmp_path, text, told):
    assert told in problem(tmp_path, text)


@pytest.mark.parametrize(
    "command",
    [["conformance", "--format", form] for form in ("html", "md", "json")]
    + [["status"], ["jobs", "list"], ["db", "upgrade"]],
    ids=lambda command: command[-1],
)
def test_69_a_secret_is_never_read_back(tmp_path, command):
    hashed = hash_passcode("right")
    (tmp_path / "none").mkdir()
    (tmp_path / "secret").write_text("s3cret-of-a-file")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "config.toml").write_text(SECRETS.format("s3cret-of-the-url", hashed))
    environment = {"DICOMNODE_SECRET_CLOUD": "s3cret-of-the-environment"}
    result = CliRunner().invoke(app, [*command, "--config", str(tmp_path / "config.toml")], env=environment)
    told = f"{result.output}{result.exception}"
    assert told
    for secret in ("s3cret", hashed, hashed.rpartition(":")[2]):
        assert secret not in told
