"""What stops the demo on purpose."""

from __future__ import annotations

from dicomnode.errors import DicomnodeError


class DemoError(DicomnodeError):
    """The demo cannot go on; the message is what the user is told."""
