"""What one instance may cost at most: more is refused for good, whoever sends it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InstanceLimits:
    """Of one data set: `size` is its bytes as they come, `inflated` those of a deflated one (PS3.5 A.5).

    `inflation`: bytes inflated from each byte, looked at beyond `INFLATION_IS_FREE` bytes.
    `elements`: elements, items and fragments. `depth`: sequences that are nested.
    """

    size: int = 16_384_000_000
    inflated: int = 2_000_000_000
    inflation: int = 200
    elements: int = 1_000_000
    depth: int = 64


INFLATION_IS_FREE = 256_000_000
"""So many bytes may be inflated from however few: an empty mask is next to nothing."""
