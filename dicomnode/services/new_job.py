"""A job before it is inserted: what it is about, and the key by which it is known again."""

from __future__ import annotations

import hashlib

from dicomnode.model.instance import Completion
from dicomnode.model.job import PATIENT_CONFLICT, NewJob, Priority
from dicomnode.model.version import Version


def new_job(
    completion: Completion,
    digest: str,
    version: Version,
    *,
    route: str,
    priority: Priority,
    send_to: tuple[str, ...] = (),
    notify: tuple[str, ...] = (),
    priors: tuple[str, ...] = (),
    order: str = "",
    deadline_s: float | None = None,
    held_reason: str | None = None,
    shadow_of: int | None = None,
) -> NewJob:
    """A job of `version` on a complete series; the same again has the same key, but for another `order`.

    `digest` names the input, `priors` what is sought beside it.
    """
    parts = [
        version.pipeline,
        version.version,
        version.digest,
        completion.StudyInstanceUID,
        completion.SeriesInstanceUID,
        digest,
        str(completion.generation),
    ]
    key = "\n".join([*parts, order] if order else parts)
    return NewJob(
        key=hashlib.sha256(key.encode()).hexdigest(),
        completion_id=completion.id,
        series_id=completion.series_id,
        generation=completion.generation,
        input_digest=digest,
        route=route,
        pipeline=version.pipeline,
        pipeline_version=version.version,
        pipeline_digest=version.digest,
        priority=priority,
        send_to=send_to,
        notify=notify,
        held_reason=PATIENT_CONFLICT if completion.patient_conflict else held_reason,
        deadline_s=deadline_s,
        priors=priors,
        shadow_of=shadow_of,
    )
