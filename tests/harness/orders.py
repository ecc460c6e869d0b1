"""An order for a run of the toy pipeline, whose bytes are in the object store of one machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from dicomnode.config import load_config
from dicomnode.installation import open_objects, open_registry
from dicomnode.model.profile import PROFILES
from dicomnode.services.origin import provenance_of
from dicomnode.services.running import RunOrder
from tests.harness.heads import small_series, write_series


def toy_order(config_file: Path) -> RunOrder:
    """What the machine of this configuration, where the toy is installed, can run."""
    config = load_config(config_file, {})
    objects, pipeline = open_objects(config), open_registry(config).get("toy")
    files = write_series(config_file.parent / "series", small_series())
    return RunOrder(
        pipeline="toy",
        pipeline_digest=pipeline.digest,
        instances=tuple(objects.put(file.read_bytes()).sha256 for file in files),
        priors=(),
        notes={},
        provenance=provenance_of(config, "1.2.3", "job", pipeline.digest, datetime.now(UTC)),
        profiles=(PROFILES["generic"],),
        earlier=(),
        frugal=False,
    )
