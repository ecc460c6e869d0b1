"""What a transaction can tell other processes of: something changed, look at the rows."""

from enum import StrEnum


class Topic(StrEnum):
    """Each is what one kind of process waits for; a signal that is lost costs only a slow look."""

    SERIES = "series"
    """A series arrives, or has all that is known to belong to it."""
    COMPLETION = "completion"
    """A series is complete."""
    INQUIRY = "inquiry"
    """An archive is to be asked."""
    PRIOR = "prior"
    """Priors are to be sought."""
    JOB = "job"
    """A job can be claimed."""
    LEASE = "lease"
    """A lease was taken away from the worker that held it."""
    ROOM = "room"
    """A worker was asked to end the model that it keeps warm."""
    DELIVERY = "delivery"
    """A result is to be sent."""
