"""How long to wait before a peer is tried, or asked, again."""

from __future__ import annotations

import random

from dicomnode.config import DeliverySection

CHECK_AGAIN_S = 30.0
"""The first wait before a peer is asked again what became of what it accepted."""
CHECK_SOON_S = (0.3, 1.0)
"""The waits after the first answers that it is not listed: an archive may list it a moment later. These
answers do not count among those after which it is sent again."""


def retry_wait_s(settings: DeliverySection, attempt: int) -> float:
    """Seconds after attempt number `attempt` (from 1): doubled each time up to the limit, with jitter."""
    longest = min(settings.backoff_limit_s, settings.backoff_s * 2.0 ** min(attempt - 1, 30))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret
