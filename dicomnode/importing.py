"""Importing much at once: what is imported stays, and none of it is worth looking through for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def much() -> Iterator[None]:
    """Collect no garbage in the block, and never look again through what it leaves."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
