"""Every transaction of the OpenAPI document, with requests that suit it and that do not (schemathesis)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.harness.nodes import ROOT
from tests.hostile.node import running

CHECKS = "not_a_server_error"
"""A request that is wrong is the client's fault: nothing but 503 and 501 may begin with a five."""


def main(limit_s: float) -> int:
    """Run against a node of its own; returns schemathesis's status."""
    with TemporaryDirectory() as folder, running(Path(folder), web="body_timeout_s = 2.0") as node:
        command = [
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            f"{node.url}/openapi.json",
            f"--checks={CHECKS}",
            f"--max-time={limit_s:g}",
            "--max-examples=10000",
            "--continue-on-failure",
            "--suppress-health-check=all",
            "--request-timeout=20",
            "--generation-database=none",
            "--warnings=off",
            "--no-color",
        ]
        hooks = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(ROOT)}
        status = subprocess.run(command, check=False, cwd=folder, env=hooks).returncode
        assert "Traceback" not in node.log()
        return status


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
