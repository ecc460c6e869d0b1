"""What docker/ describes can be started: nothing here needs Docker's daemon."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dicomnode import node
from dicomnode.cli import app
from dicomnode.config import load_config
from dicomnode.model.role import Role
from tests.conftest import NOT_RUN_HERE

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
COMPOSED = sorted(DOCKER.glob("compose*.yaml"), key=lambda file: file.name)
GIVEN = {"POSTGRES_PASSWORD": "p4ss", "S3_SECRET": "s3cret"}
CONFIG = "/etc/dicomnode/config.toml"


def composed(file: Path) -> dict[str, Any]:
    """The file as Compose understands it: checked against its schema, with values in place of variables."""
    programs = {"docker-compose": ["docker-compose"], "docker": ["docker", "compose"]}
    known = [command for name, command in programs.items() if shutil.which(name)]
    for command in known:
        done = subprocess.run(
            [*command, "-f", str(file), "config"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **GIVEN},
            timeout=60,
        )
        if "unknown command" not in done.stderr:
            assert done.returncode == 0, done.stderr
            answer: dict[str, Any] = yaml.safe_load(done.stdout)
            return answer
    pytest.skip(f"{NOT_RUN_HERE}Docker Compose")


def image() -> tuple[dict[str, str], list[str]]:
    """What the Dockerfile sets in the environment, and which command it runs."""
    text = (DOCKER / "Dockerfile").read_text()
    stage = text[text.rindex("\nFROM ") :].replace("\\\n", " ")
    environment = dict(
        pair.split("=", 1) for line in re.findall(r"^ENV (.*)$", stage, re.MULTILINE) for pair in line.split()
    )
    (command,) = re.findall(r"^CMD (\[.*\])$", stage, re.MULTILINE)
    words: list[str] = yaml.safe_load(command)
    return environment, words


def started(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> tuple[Path, Role | None]:
    """Which configuration this command line would serve, and which role of it."""
    asked: list[tuple[Path, Role | None]] = []
    monkeypatch.setattr(node, "serve", lambda file: asked.append((file, None)) or 0)
    monkeypatch.setattr(node, "serve_role", lambda file, role, _: asked.append((file, role)) or 0)
    program, *arguments = words
    assert program == "dicomnode"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    (only,) = asked
    return only


@pytest.mark.parametrize("file", COMPOSED, ids=lambda file: file.name)
def test_every_service_of_a_compose_file_is_a_command_and_settings_that_the_node_understands(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_by_image, command_of_image = image()
    roles = []
    for name, service in composed(file)["services"].items():
        if "build" not in service:
            continue
        assert (Path(service["build"]["context"]) / service["build"]["dockerfile"]).samefile(
            DOCKER / "Dockerfile"
        )
        words = service.get("command") or command_of_image
        served, role = started(monkeypatch, shlex.split(words) if isinstance(words, str) else words)
        roles.append(role)
        assert str(served) == CONFIG, name
        assert any(CONFIG in str(volume) for volume in service["volumes"]), name
        config = load_config(ROOT / "config.toml", {**set_by_image, **service["environment"]})
        assert config.database_url == "postgresql+psycopg://dicomnode:p4ss@postgres/dicomnode"
        assert config.node.data == Path("/data")
    expected = [None, *[Role.RECEIVER] * 2, *[Role.WEB] * 2] if "balanced" in file.name else [None]
    assert sorted(roles, key=str) == sorted(expected, key=str)


def test_the_balancer_starts_while_nobody_whom_it_balances_has_a_name_yet() -> None:
    if (program := shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")) is None:
        pytest.skip(f"{NOT_RUN_HERE}haproxy")
    done = subprocess.run(
        [program, "-c", "-f", str(DOCKER / "haproxy.cfg")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
