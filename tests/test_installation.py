"""What a configuration points to is opened, with its secret; or the start says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.config import ObjectsSection, load_config
from dicomnode.errors import ConfigError
from dicomnode.installation import bucket_settings, open_stores
from dicomnode.store.bucket import Bucket


def settings(folder: Path, text: str, **environment: str) -> ObjectsSection:
    """`[objects]` as it is read from a file."""
    file = folder / "config.toml"
    file.write_text(text)
    return load_config(file, environment).objects


def test_a_bucket_has_a_prefix_and_its_secret_is_in_a_file_or_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    text = '[objects]\nurl = "s3://images/site/1"\naccess_key = "node"\n'
    section = settings(tmp_path, text, DICOMNODE_OBJECTS_ENDPOINT="https://s3.example/")
    bucket = bucket_settings(section, {"DICOMNODE_SECRET_OBJECTS": "from outside"})
    assert (bucket.name, bucket.prefix, bucket.secret) == ("images", "site/1", "from outside")
    assert Bucket(bucket).place_name == "s3://images/site/1 at https://s3.example"
    section = settings(tmp_path, f'{text}secret_file = "secret"\n')
    assert bucket_settings(section, {}).secret == "from the file"  # noqa: S105  it is none
    assert "from the file" not in repr(bucket_settings(section, {}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('url = "https://images"', "objects.url"),
        ('url = "s3://Images"', "objects.url"),
        ('url = "s3://images"\nendpoint = "s3.example"', "objects.endpoint"),
        ('url = "s3://images"\naccess_key = "node"', "DICOMNODE_SECRET_OBJECTS is not set"),
        ('url = "s3://images"\naccess_key = "node"\nsecret_file = "none"', "objects.secret_file"),
        ('url = "s3://images"\nca_file = "none"', "objects.ca_file"),
        ('[database]\nurl = "oracle://somewhere"', "database.url: must be"),
        ('[node]\ndata = "site.toml"', "cannot be used as a folder"),
        ('[[destination]]\nname = "objects"\nweb = { url = "https://a.example" }', "call it something else"),
    ],
)
def test_what_cannot_be_used_stops_the_start(
    text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DICOMNODE_SECRET_OBJECTS", raising=False)
    file = tmp_path / "site.toml"
    file.write_text(f"[objects]\n{text}\n")
    with pytest.raises(ConfigError, match=problem) as raised:
        open_stores(load_config(file, {}))
    assert raised.value.file == str(file)


def test_an_authority_that_is_none_is_told_as_a_setting(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    section = settings(tmp_path, '[objects]\nurl = "s3://images"\nca_file = "ca.pem"\n')
    with pytest.raises(ConfigError, match="ca_file"):
        Bucket(bucket_settings(section, {})).head("x")
