"""Which version of a pipeline is active, and which are in its shadow: the only place where that is written.

Rows of `activation` are never changed: the last one of a pipeline is what counts, and `earlier_id` is what a
rollback goes back to.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, insert, not_, select

from dicomnode.errors import NotFound
from dicomnode.model.job import SETTLED
from dicomnode.model.version import Activation, Shadowing, Version
from dicomnode.store import audit
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import activation, job, shadow


def active(tx: Transaction, pipeline: str) -> Activation | None:
    """The version whose results are delivered; None where nobody has said so yet."""
    row = _current(tx, pipeline)
    return None if row is None else _activation(row)


def adopt(tx: Transaction, version: Version) -> None:
    """The version that is there becomes the active one without anybody's order: there is no other."""
    current = _current(tx, version.pipeline)
    _activate(tx, version, None if current is None else current.earlier_id, "dicomnode")
    audit.record(tx, "pipeline_adopted", _facts(version))


def promote(tx: Transaction, version: Version, actor: str) -> None:
    """From the next series on it is the active one; it is in nobody's shadow any more."""
    current = _current(tx, version.pipeline)
    tx.execute(delete(shadow).where(_is(version)))
    _activate(tx, version, None if current is None else current.id, actor)
    was = None if current is None else current.digest
    audit.record(tx, "pipeline_promoted", {**_facts(version), "instead_of": was, "actor": actor})


def roll_back(tx: Transaction, pipeline: str, actor: str) -> Version:
    """The version before the active one is it again. Raises NotFound where there was none."""
    current = _current(tx, pipeline)
    if current is None or current.earlier_id is None:
        raise NotFound("earlier version of", pipeline)
    before = tx.execute(select(activation).where(activation.c.id == current.earlier_id)).one()
    version = _activation(before).version
    tx.execute(delete(shadow).where(_is(version)))
    _activate(tx, version, before.earlier_id, actor)
    facts = {**_facts(version), "instead_of": current.digest, "actor": actor}
    audit.record(tx, "pipeline_rolled_back", facts)
    return version


def begin_shadow(tx: Transaction, version: Version, percent: float, actor: str) -> None:
    """It runs beside the active one from now on; where it does so already, the later share counts."""
    tx.execute(delete(shadow).where(_is(version)))
    row = {"pipeline": version.pipeline, "version": version.version, "digest": version.digest}
    tx.execute(insert(shadow).values(**row, percent=percent, actor=actor, at=Now()))
    facts = {**_facts(version), "percent": f"{percent:g}", "actor": actor}
    audit.record(tx, "shadow_begun", facts)


def end_shadow(tx: Transaction, pipeline: str, version: str, actor: str) -> None:
    """It makes no further jobs; those that wait still run. Raises NotFound where it was in no shadow."""
    named = (shadow.c.pipeline == pipeline) & (shadow.c.version == version)
    if not tx.execute(delete(shadow).where(named)).rowcount:
        raise NotFound(f"{pipeline} in shadow mode in the version", version)
    audit.record(tx, "shadow_ended", {"pipeline": pipeline, "version": version, "actor": actor})


def shadows(tx: Transaction, pipeline: str | None = None) -> list[Shadowing]:
    """What runs in the shadow of a pipeline's active version, or of any's, the oldest first."""
    query = select(shadow).order_by(shadow.c.id)
    if pipeline is not None:
        query = query.where(shadow.c.pipeline == pipeline)
    return [
        Shadowing(Version(row.pipeline, row.version, row.digest), row.percent, row.actor, row.at)
        for row in tx.execute(query)
    ]


def actives(tx: Transaction) -> list[Activation]:
    """The active version of every pipeline, by name."""
    last = select(func.max(activation.c.id)).group_by(activation.c.pipeline)
    rows = tx.execute(select(activation).where(activation.c.id.in_(last)).order_by(activation.c.pipeline))
    return [_activation(row) for row in rows]


def waited_for(tx: Transaction) -> dict[Version, int]:
    """How many jobs that are not settled are pinned to each version."""
    pinned = (job.c.pipeline, job.c.pipeline_version, job.c.pipeline_digest)
    unsettled = not_(job.c.state.in_(SETTLED))
    rows = tx.execute(select(*pinned, func.count().label("jobs")).where(unsettled).group_by(*pinned))
    return {Version(row.pipeline, row.pipeline_version, row.pipeline_digest): row.jobs for row in rows}


def _current(tx: Transaction, pipeline: str) -> Any:
    of_pipeline = select(activation).where(activation.c.pipeline == pipeline)
    return tx.execute(of_pipeline.order_by(activation.c.id.desc()).limit(1)).first()


def _activate(tx: Transaction, version: Version, earlier_id: int | None, actor: str) -> None:
    row = {"pipeline": version.pipeline, "version": version.version, "digest": version.digest}
    tx.execute(insert(activation).values(**row, earlier_id=earlier_id, actor=actor, at=Now()))


def _activation(row: Any) -> Activation:
    return Activation(Version(row.pipeline, row.version, row.digest), row.actor, row.at)


def _is(version: Version) -> Any:
    return (shadow.c.pipeline == version.pipeline) & (shadow.c.digest == version.digest)


def _facts(version: Version) -> dict[str, str | int | None]:
    return {"pipeline": version.pipeline, "version": version.version, "digest": version.digest}
