"""A mistake in the settings stops the start and is named with its file, its key and the nearest known one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.config import load_config
from dicomnode.errors import ConfigError
from dicomnode.model.peer import PeerTLS

ROOT = Path(__file__).parents[1]


def problems(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> str:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_config(file, environment or {})
    return str(raised.value)


def test_the_projects_own_config_toml_is_sound_and_stands_on_its_own_folder():
    config = load_config(ROOT / "config.toml", {})
    assert config.node.data == ROOT / "var"
    assert config.database_url == f"sqlite:///{ROOT / 'var' / 'dicomnode.sqlite3'}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[nodes]\n", "nodes: no such key; did you mean 'node'?"),
        ("[dimse]\nprot = 104\n", "dimse.prot: no such key; did you mean 'port'?"),
        ('[dimse]\nport = "104"\n', "dimse.port: Input should be a valid integer"),
        ("[dimse]\nport = 70000\n", "dimse.port: Input should be less than or equal to 65535"),
        (
            '[node]\nae_title = "SEVENTEEN LETTERS"\n',
            "node.ae_title: an AE title has 1 to 16 plain characters",
        ),
        ('[node]\nae_title = "A\\\\B"\n', "node.ae_title: an AE title has no backslash"),
        ("[results]\nresearch_only = 1\n", "results.research_only: Input should be a valid boolean"),
        ('[dimse]\naddress = "localhost"\n', "dimse.address: is no address such as 127.0.0.1"),
        (
            '[dimse]\naccept = [{ae_title = "A", address = "10.1.2.3/16"}]\n',
            "dimse.accept[1].address: is no network such as 10.1.0.0/16",
        ),
        ('[dimse]\nusers = [{name = "a", passcode = "secret"}]\n', "passcode: is not a hashed passcode"),
        ("[dimse]\nuser_required = true\n", "user_required without users lets nobody in"),
        ('[dimse.tls]\ncertificate = "a.pem"\n', "certificate and key belong together"),
        ('[dimse.tls]\ncertificate = "a.pem"\nkey = "a.key"\n', "needs ca, who signs them"),
        ('[dimse.tls]\nclient_certificate = "none"\n', "did you mean 'client_certificates'?"),
        (
            '[[route]]\nname = "a"\nwhen = "true"\npipeline = "p"\nsend_to = ["pcas"]\n',
            "route[1].send_to has 'pcas', which is no destination",
        ),
        ('[completion]\nask = "pcas"\n', "which is no destination and no [[peer]]"),
        ('[delivery]\nannounce_to = ["RIS"]\n', "for which there is no [[peer]]"),
        ('[[route]]\nname = "a"\n', "route[1].when: Field required"),
        ("not toml", "is not TOML"),
        (
            '[dimse]\naddress = "0.0.0.0"\naccept = [{ae_title = "*", address = "0.0.0.0/0"}]\n',
            "lets everybody in",
        ),
        (
            '[[destination]]\nname = "a"\ndimse = {ae_title = "A", host = "h", prot = 1}\n',
            "did you mean 'port'?",
        ),
        (
            '[[destination]]\nname = "a"\nprofile = "ohif"\ndimse = {ae_title = "A", host = "h", port = 1}\n',
            "destination[1].profile is 'ohif', which is none; did you mean 'ohif3'?",
        ),
        ("[profile.ours]\nmaximum_frame = 1\n", "did you mean 'maximum_frames'?"),
        (
            '[web]\naddress = "0.0.0.0"\naccept = [{ae_title = "CT1", address = "0.0.0.0/0"}]\n',
            "web: accept lets everybody in",
        ),
        (
            '[ray]\naddress = "h:10002"\nown_address = "10.1.0.5"\ntoken_file = "t"\n',
            "address has a port that Ray gives to its workers",
        ),
        ("[web]\nport = 0\nprocesses = 2\n", "web: several processes share one port"),
        ('[web]\npath = "dicom-web"\n', "web.path: "),
        (
            '[[workers.devices]]\nname = "gpu"\n',
            "'gpu' is no device of torch's: say which is meant with torch",
        ),
        ('[[workers.devices]]\nname = "gpu"\ntorch = "cpu"\n', "a device with torch needs memory_mb"),
        ('[[workers.devices]]\nname = "cpu"\nmemory_mb = 1\n', "that of the machine: workers.memory_mb"),
        ('[workers]\ndevices = [{name = "cpu"}, {name = "cpu"}]\n', "two devices are called 'cpu'"),
        ('[web]\ncors_origins = ["*"]\n', "web.cors_origins[1]: "),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, text, told):
    message = problems(tmp_path, text)
    assert told in message
    assert message.startswith(str(tmp_path / "config.toml"))


def test_every_mistake_is_told_at_once(tmp_path):
    assert problems(tmp_path, "[dimse]\nprot = 1\n[nodes]\n").count("\n") == 1


def test_the_environment_goes_before_the_file(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[dimse]\nport = 1\n")
    config = load_config(
        file, {"DICOMNODE_DIMSE_PORT": "104", "DICOMNODE_DATABASE_URL": "postgresql://x", "HOME": "/"}
    )
    assert (config.dimse.port, config.database_url) == (104, "postgresql://x")


def test_an_unknown_variable_of_ours_stops_the_start(tmp_path):
    assert "did you mean 'DICOMNODE_DIMSE_PORT'?" in problems(tmp_path, "", {"DICOMNODE_DIMSE_PROT": "1"})


def test_a_destination_takes_results_in_the_form_of_its_profile(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(
        "[profile.ours]\nmaximum_frames = 9\n"
        '[[destination]]\nname = "a"\nprofile = "ours"\ndimse = {ae_title = "A", host = "h", port = 1}\n'
        '[[destination]]\nname = "b"\nprofile = "weasis"\ndimse = {ae_title = "B", host = "h", port = 1}\n'
    )
    config = load_config(file, {})
    assert [config.profile_of(name).maximum_frames for name in ("a", "b", "gone")] == [9, 400, None]


def test_the_files_for_tls_are_relative_to_the_file(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(
        '[dimse.tls]\ncertificate = "a.pem"\nkey = "/keys/a.key"\nca = "ca.pem"\n'
        '[[peer]]\nae_title = "A"\nhost = "h"\nport = 1\ntls = {ca = "other.pem", verify_host = false}\n'
    )
    config = load_config(file, {})
    assert config.dimse.tls.certificate == str(tmp_path / "a.pem")
    assert config.dimse.tls.key == "/keys/a.key"
    assert config.peer_named("A").tls == PeerTLS(str(tmp_path / "other.pem"), "", "", verify_host=False)
