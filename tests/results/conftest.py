"""A manifest, an origin and an asymmetric label map for the results' tests."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from dicomnode.model.manifest import Manifest
from dicomnode.results.provenance import Provenance

_SEGMENTS = ((2, "csf", "Cerebrospinal fluid", "65216001"), (5, "grey", "Grey matter", "389081007"))


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    return Manifest.model_validate(
        {
            "pipeline": {
                "name": "brain_tissue",
                "version": "1.2.0",
                "title": "Brain tissue volumes",
                "input": "volume",
                "time_limit_s": 60,
                "memory_mb": 1000,
                "weights": "model.safetensors",
            },
            "algorithm": {"name": "Net", "family": ["123110", "DCM", "Artificial Intelligence"]},
            "segment": [
                {
                    "label": label,
                    "name": name,
                    "title": title,
                    "category": ["123037004", "SCT", "Anatomical Structure"],
                    "type": [code, "SCT", title],
                    "color": [200, 10 * label, 30],
                }
                for label, name, title, code in _SEGMENTS
            ],
            "measurement": [
                {
                    "segment": name,
                    "quantity": "volume",
                    "code": ["118565006", "SCT", "Volume"],
                    "unit": ["ml", "UCUM", "milliliter"],
                }
                for _, name, _, _ in _SEGMENTS
            ],
        }
    )


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    at = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
    return Provenance("node", "job", "sha256:ab", "Maker", "dicomnode", "0.1.0", "7", True, 9100, at)


def asymmetric_labels(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Random labels, denser towards one corner: no flip, turn or shift leaves them as they are."""
    random = np.random.default_rng(seed)
    ramp = np.indices(shape).sum(0) / sum(shape)
    return np.where(random.random(shape) < ramp, random.choice([2, 5], shape), 0).astype(np.uint8)
