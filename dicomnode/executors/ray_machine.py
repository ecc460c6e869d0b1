"""This machine's part of a Ray cluster: which environment Ray gets, and how its processes are started."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from dicomnode.config import FILE_VARIABLE, RaySection
from dicomnode.errors import ConfigError

AWAY_S = 20
"""A machine, or a slot, that has lost the first machine for this long ends, and joins anew."""


def require_usable(settings: RaySection) -> None:
    """Raises ConfigError where the token cannot be read, or others on this machine can read it too."""
    file = Path(settings.token_file)
    try:
        mode, token = file.stat().st_mode, file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(file, [f"ray.token_file cannot be read: {type(error).__name__}"]) from None
    if mode & 0o077:
        raise ConfigError(file, ["ray.token_file: whoever knows it runs code here; chmod 600"])
    if len(token) < 32:
        raise ConfigError(file, ["ray.token_file has less than 32 characters"])


def environment_of(settings: RaySection, inherited: Mapping[str, str]) -> dict[str, str]:
    """What a process that speaks to the cluster has in its environment: the token, and no reports home."""
    return {
        # It would go before the file.
        **{name: value for name, value in inherited.items() if name != "RAY_AUTH_TOKEN"},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(Path(settings.token_file).resolve()),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(AWAY_S),
    }


def machine_environment(settings: RaySection, file: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The same for Ray's own processes, which start actors: those read the config.toml of their machine."""
    return {
        **environment_of(settings, inherited),
        FILE_VARIABLE: str(file.resolve()),
        # A machine whose processes are gone is given up after 5 s, one that does not answer after 30 s.
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "5000",
        "RAY_health_check_failure_threshold": "5",
    }


def start_command(settings: RaySection) -> list[str]:
    """What runs Ray on this machine until it is told to stop: no dashboard, nothing but what actors need."""
    host, _, port = settings.address.rpartition(":")
    place = ["--head", f"--port={port}", "--include-dashboard=false", "--no-monitor"]
    if not settings.is_head:
        place = [f"--address={host}:{port}"]
    given = {
        "num-cpus": settings.cpus,
        "num-gpus": settings.gpus,
        "memory": settings.memory_mb if settings.memory_mb == "auto" else settings.memory_mb * 1_000_000,
        "object-store-memory": settings.object_store_mb * 1_000_000,
    }
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place),
        f"--node-ip-address={settings.own_address}",
        f"--temp-dir={settings.folder}",
        "--include-log-monitor=false",
        "--disable-usage-stats",
        *(f"--{name}={value}" for name, value in given.items() if value != "auto"),
    ]
