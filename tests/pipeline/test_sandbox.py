"""A bundle has no network, does not see the node's secrets, and dies with the node."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.errors import RunFailed
from dicomnode.pipeline.sandbox import child_environment
from tests.conftest import NOT_RUN_HERE
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.pipeline.conftest import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def _namespaces():
    if subprocess.run(["unshare", "-Urn", "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"{NOT_RUN_HERE}user and network namespaces")


def test_a_bundle_cannot_reach_a_listener_on_this_machine(runner_of, series):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        extra = f"__import__('socket').create_connection(('127.0.0.1', {port}), 2)"
        with pytest.raises(RunFailed) as caught:
            run(runner_of(extra=extra), series)
        assert caught.value.kind == "OSError"
        assert not select.select([listener], [], [], 0)[0]


def test_a_bundle_finds_no_secret_of_the_node_in_any_environment(runner_of, series, monkeypatch):
    # The kernel shows what a process was started with: that of a child of ours stands for the node's.
    monkeypatch.setenv("DICOMNODE_DATABASE_URL", "sentinel-secret")
    node = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    extra = (
        f"assert 'DICOMNODE_DATABASE_URL' not in os.environ; open('/proc/{node.pid}/environ', 'rb').read()"
    )
    try:
        assert node.stdout is not None
        node.stdout.readline()
        assert b"sentinel-secret" in Path(f"/proc/{node.pid}/environ").read_bytes()
        with pytest.raises(RunFailed) as caught:
            run(runner_of(extra=extra), series)
        assert caught.value.kind == "PermissionError"
    finally:
        node.communicate(b"\n")


def test_a_bundle_cannot_read_the_nodes_database_and_settings_or_write_beside_its_own_folder(
    runner_of, series, tmp_path_factory
):
    elsewhere = tmp_path_factory.mktemp("node")
    database = elsewhere / "dicomnode.sqlite3"
    database.write_bytes(b"rows")
    attempts = (
        f"open({str(database)!r}, 'rb')",
        f"open({str(elsewhere / 'new')!r}, 'w')",
        f"os.listdir({str(elsewhere)!r})",
        f"open({str(series[0])!r}, 'ab')",
        f"open({str(ROOT / 'config.toml')!r})",
        "open('/etc/shadow')",
    )
    probe = "".join(
        f"try:\n    {attempt}\nexcept PermissionError:\n    pass\nelse:\n    raise KeyError\n"
        for attempt in attempts
    )
    run(runner_of(extra=f"exec({probe!r}); open('own', 'w').write('x')"), series)


def test_only_the_allowed_environment_is_passed_on(tmp_path):
    given = {
        "PATH": "/bin",
        "NVIDIA_VISIBLE_DEVICES": "0",
        "PGPASSWORD": "x",
        "DICOMNODE_X": "x",
        "HOME": "/root",
    }
    passed = child_environment(given, tmp_path, tmp_path)
    assert {"PGPASSWORD", "DICOMNODE_X"}.isdisjoint(passed)
    assert (passed["PATH"], passed["HOME"]) == ("/bin", str(tmp_path))


def test_killing_the_node_ends_the_bundle_and_what_it_started(tmp_path, series):
    own = tmp_path / "s" / "child"
    own.mkdir(parents=True)
    fifo = own / "fifo"
    os.mkfifo(fifo)
    # The bundle and a process of its own session hold the fifo open: it ends when both are gone.
    extra = (
        f"os.fork() or os.setsid(); f = open({str(fifo)!r}, 'w'); f.write('x'); f.flush(); time.sleep(600)"
    )
    folder = write_toy_pipeline(tmp_path / "pipelines", extra=extra)
    script = (
        "import sys; from pathlib import Path\n"
        "from dicomnode.pipeline.registry import open_pipeline\n"
        "from dicomnode.pipeline.runner import Runner\n"
        f"pipeline = open_pipeline(Path({str(folder)!r}), lambda _: None)\n"
        f"runner = Runner(pipeline, 'cpu', Path({str(tmp_path / 's')!r}), Path({str(tmp_path)!r}))\n"
        "from tests.pipeline.conftest import run\n"
        f"run(runner, [Path(p) for p in {[str(p) for p in series]!r}])\n"
    )
    node = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)})
    with fifo.open("rb", buffering=0) as held:
        assert held.read(1) + held.read(1) == b"xx"
        node.send_signal(signal.SIGKILL)
        node.wait()
        assert held.read() == b""
