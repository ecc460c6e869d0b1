"""An authority for one test, and certificates of it, made by the openssl program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import NOT_RUN_HERE


def openssl() -> str:
    """Where openssl is; skips without it."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip(f"{NOT_RUN_HERE}openssl")
    return program


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files."""

    certificate: str
    key: str


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own = self._make(name, "-x509", "-days", "2")
        self.ca = self._own.certificate

    def certificate(self, name: str, host: str = "IP:127.0.0.1") -> Certificate:
        """A new certificate for `host`."""
        issuer = ("-CA", self.ca, "-CAkey", self._own.key)
        return self._make(name, "-x509", "-days", "2", *issuer, "-addext", f"subjectAltName={host}")

    def _make(self, name: str, *options: str) -> Certificate:
        files = Certificate(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}.key"))
        command = [openssl(), "req", *options, "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
        subprocess.run(
            [*command, "-out", files.certificate, "-keyout", files.key], check=True, capture_output=True
        )
        return files
