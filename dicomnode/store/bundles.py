"""How much memory jobs of each bundle need: what its manifest says, corrected by what its last runs took."""

from __future__ import annotations

import math

from sqlalchemy import ColumnElement, case, func, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicomnode.model.room import Peak
from dicomnode.store.database import Transaction
from dicomnode.store.schema import JOB_WAITS, RUN_MEASURED, bundle, job, run

LAST_RUNS = 20
"""What a bundle needs is judged by so many of its runs."""
MARGIN = 1.25
"""So much more than any of them took, the next one may."""
STEP_MB = 100


def declare(tx: Transaction, pipeline_digest: str, memory_mb: int, gpu_memory_mb: int) -> None:
    """What the manifest of a bundle says, 0 where nobody can read it; what is known already stays."""
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    says = {
        "declared_mb": memory_mb,
        "declared_gpu_mb": gpu_memory_mb,
        "memory_mb": memory_mb,
        "gpu_memory_mb": gpu_memory_mb,
    }
    new = dialect.insert(bundle).values(pipeline_digest=pipeline_digest, **says)
    unknown = (bundle.c.declared_mb == 0) & (new.excluded.declared_mb > 0)
    tx.execute(new.on_conflict_do_update(index_elements=["pipeline_digest"], set_=says, where=unknown))


def undeclared(tx: Transaction) -> list[tuple[str, str]]:
    """The bundles of jobs that wait of which nobody has said what they need: pipeline and digest."""
    known = select(bundle.c.pipeline_digest).where(bundle.c.pipeline_digest == job.c.pipeline_digest)
    waiting = select(job.c.pipeline, job.c.pipeline_digest).where(JOB_WAITS, ~known.exists()).distinct()
    return [(row.pipeline, row.pipeline_digest) for row in tx.execute(waiting)]


def declared(tx: Transaction, pipeline_digest: str) -> Peak | None:
    """All that the manifest of a bundle says that it needs; None where nobody has told."""
    row = tx.execute(select(bundle).where(bundle.c.pipeline_digest == pipeline_digest)).first()
    return None if row is None else Peak(row.declared_mb, row.declared_gpu_mb or None)


def correct(tx: Transaction, pipeline_digest: str) -> None:
    """From here on jobs of the bundle need what its last runs took, and a margin.

    Of the machine's memory never more than is declared: no run may hold more.
    """
    last = (
        select(run.c.memory_mb, run.c.gpu_memory_mb)
        .where(run.c.pipeline_digest == pipeline_digest, RUN_MEASURED)
        .order_by(run.c.id.desc())
        .limit(LAST_RUNS)
        .subquery()
    )
    host_mb, device_mb = tx.execute(select(func.max(last.c.memory_mb), func.max(last.c.gpu_memory_mb))).one()
    needs = {"memory_mb": _at_most(bundle.c.declared_mb, _with_margin(host_mb))}
    if device_mb is not None:
        needs["gpu_memory_mb"] = literal(_with_margin(device_mb))
    # Where nothing changes, nothing is locked: runs of one bundle end at the same moment.
    differs = or_(*(bundle.c[name] != value for name, value in needs.items()))
    tx.execute(update(bundle).where(bundle.c.pipeline_digest == pipeline_digest, differs).values(**needs))


def _at_most(limit: ColumnElement[int], megabytes: int) -> ColumnElement[int]:
    return case(((limit > 0) & (limit < megabytes), limit), else_=megabytes)


def _with_margin(megabytes: int) -> int:
    return math.ceil(megabytes * MARGIN / STEP_MB) * STEP_MB
