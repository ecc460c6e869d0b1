"""What jobs need is said before a slot takes them, and a job that fits nowhere does not wait for ever."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from dicomnode.errors import NotFound
from dicomnode.pipeline.registry import InstalledPipeline, Registry
from dicomnode.store import admission, bundles
from dicomnode.store.database import Database, Transaction

log = structlog.get_logger()


def declare_needs(tx: Transaction, pipelines: Iterable[InstalledPipeline]) -> None:
    """What the manifests of these say that they need, where nobody has said it yet."""
    for pipeline in pipelines:
        section = pipeline.manifest.pipeline
        bundles.declare(tx, pipeline.digest, section.memory_mb, section.gpu_memory_mb)


def place(database: Database, registry: Registry) -> int:
    """Say what new bundles need, and hold what no device has the memory for; returns how many of both.

    Where a bundle is not installed here, its first run will show what it needs.
    """
    with database.read() as tx:
        new, misfit = bundles.undeclared(tx), admission.any_misfit(tx)
    if not new and not misfit:
        return 0
    with database.begin() as tx:
        for name, digest in new:
            try:
                declare_needs(tx, [registry.pinned(name, digest)])
            except NotFound:
                bundles.declare(tx, digest, 0, 0)
        held = admission.hold_misfits(tx)
    if held:
        log.warning("jobs.too_large", jobs=held)
    return len(new) + len(held)
