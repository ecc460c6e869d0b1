"""Machines of a Ray cluster, all on this one: each has its folder, its address and its pretended GPUs."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.harness.nodes import ROOT
from tests.peers import free_port


@dataclass
class Cluster:
    """What its machines have in common. `folder` is short: paths of sockets are."""

    folder: Path
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.token = self.folder / "token"
        self.token.write_text(secrets.token_hex(32))
        self.token.chmod(0o600)

    @property
    def address(self) -> str:
        """Where its first machine is."""
        return f"127.0.0.2:{self.port}"

    def listens(self) -> bool:
        """True where its first machine takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.2", self.port)) == 0

    def environment(self, number: int, gpus: int) -> dict[str, str]:
        """`[ray]` of the machine of that number; the first one is 2."""
        return {
            "DICOMNODE_RAY_ADDRESS": self.address,
            "DICOMNODE_RAY_OWN_ADDRESS": f"127.0.0.{number}",
            "DICOMNODE_RAY_TOKEN_FILE": str(self.token),
            "DICOMNODE_RAY_FOLDER": str(self.folder / str(number)),
            "DICOMNODE_RAY_CPUS": "2" if gpus else "0",
            "DICOMNODE_RAY_GPUS": str(gpus),
            "DICOMNODE_RAY_SLOT_GPUS": "0.5",
        }


class Machine:
    """A machine that runs jobs of others: `dicomnode serve --role ray`."""

    def __init__(self, folder: Path, pipelines: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir()
        self.data, self.config = folder / "data", folder / "config.toml"
        shutil.copytree(pipelines, folder / "pipelines")
        self.config.write_text('[node]\ndata = "data"\nminimum_free_mb = 1\n')
        self._log, self._environment = folder / "log.jsonl", {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Join the cluster, now or as soon as there is one."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dicomnode", "serve", "--role", "ray", "--config", str(self.config)],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    @property
    def works(self) -> bool:
        """True where a model's process has begun on this machine."""
        return any(self.data.glob("scratch/*/child"))

    def kill(self) -> None:
        """As if its power went."""
        if self._process is not None:
            kill_with_all_below(psutil.Process(self._process.pid))
            self._process.wait(20)
            shutil.rmtree(self.data / "scratch", ignore_errors=True)
            self._process = None


def kill_with_all_below(first: psutil.Process) -> None:
    """SIGKILL to a process and to all that it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def left_of(cluster: Cluster) -> list[psutil.Process]:
    """Processes of Ray that still know the cluster's folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(cluster.folder) in part for part in process.info["cmdline"] or ())
    ]
