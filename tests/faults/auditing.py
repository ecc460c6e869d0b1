"""The check of the books: what must hold after any fault, whenever somebody looks.

What the sender was told and what the archive wrote down is held against the node's rows and objects. Nothing
here trusts a rule of the node but its tables of states.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from dicomnode.installation import Stores
from dicomnode.model import delivery as deliveries
from dicomnode.model import job as jobs
from dicomnode.store.database import Transaction
from dicomnode.store.schema import completion, delivery, delivery_event, instance, job, job_event, result, run

ENDED = frozenset({"done", "cancelled", "refused"})
DELIVERED = frozenset({"confirmed", "superseded"})

Digests = Mapping[str, str]
Archived = Mapping[str, Collection[str]]


def mistakes(stores: Stores, acknowledged: Digests, archived: Archived, routes: Collection[str]) -> list[str]:
    """What is wrong in the books of a node, where every complete series is for each of `routes`.

    `acknowledged`: the digest of each instance of which the sender was told success. `archived`: those of
    the data sets that the archive took, one for each time; both by SOPInstanceUID.
    """
    with stores.database.read() as tx:
        return [
            *_lost(tx, stores, acknowledged),
            *_misrouted(tx, routes),
            *_impossible(tx, "job", job, job_event, job_event.c.job_id, jobs.TRANSITIONS),
            *_impossible(
                tx, "delivery", delivery, delivery_event, delivery_event.c.delivery_id, deliveries.TRANSITIONS
            ),
            *_stale_results(tx),
            *_otherwise_archived(tx, stores, archived),
        ]


def unfinished(stores: Stores) -> list[str]:
    """What has not come to its end yet; nothing where nobody is still at work or waits."""
    with stores.database.read() as tx:
        left = tx.execute(select(job.c.id, job.c.state, job.c.lease_owner).where(job.c.state.not_in(ENDED)))
        unsent = select(delivery.c.state).where(delivery.c.state.not_in(DELIVERED))
        unrouted = select(completion.c.id).where(completion.c.routed_at.is_(None))
        return [
            *(f"job {each.id} is {each.state}{_by(each.lease_owner)}" for each in left),
            *(f"{n} deliveries {state}" for state, n in Counter(tx.execute(unsent).scalars()).items()),
            *(f"completion {each} is not routed" for each in tx.execute(unrouted).scalars()),
        ]


def _by(owner: str | None) -> str:
    return "" if owner is None else f" by {owner}"


def _lost(tx: Transaction, stores: Stores, acknowledged: Digests) -> Iterator[str]:
    rows = tx.execute(select(instance.c.SOPInstanceUID, instance.c.sha256)).all()
    known = {(row.SOPInstanceUID, row.sha256) for row in rows}
    for uid, digest in acknowledged.items():
        if (uid, digest) not in known:
            yield f"instance {uid} was acknowledged and has no row"
        if not stores.objects.intact(digest):
            yield f"instance {uid} was acknowledged and its bytes are gone or altered"


def _misrouted(tx: Transaction, routes: Collection[str]) -> Iterator[str]:
    """Each complete series has one job for each route and generation."""
    there = Counter(
        (row.series_id, row.generation, row.route)
        for row in tx.execute(select(job.c.series_id, job.c.generation, job.c.route))
    )
    routed = select(completion.c.series_id, completion.c.generation).where(
        completion.c.routed_at.is_not(None)
    )
    expected = {(row.series_id, row.generation, route) for row in tx.execute(routed) for route in routes}
    for key in sorted(expected | there.keys()):
        if there[key] != int(key in expected):
            series_id, generation, route = key
            yield f"series {series_id} has {there[key]} jobs of generation {generation} for route {route!r}"


def _impossible(
    tx: Transaction, kind: str, table: Any, events: Any, of: Any, transitions: Mapping[Any, Any]
) -> Iterator[str]:
    """Events that the table of states does not allow, or by a fence that is not the youngest."""
    by_row = defaultdict(list)
    for event in tx.execute(
        select(of.label("of"), events.c.event, events.c.state, events.c.fence).order_by(events.c.id)
    ):
        by_row[event.of].append(event)
    for row in tx.execute(select(table.c.id, table.c.state, table.c.fence)):
        what = f"{kind} {row.id}"
        yield from _broken(what, by_row[row.id], transitions)
        last = by_row[row.id][-1]
        if (last.state, last.fence) != (row.state, row.fence):
            yield f"{what} is {row.state} ({row.fence}), its events left it {last.state} ({last.fence})"


def _broken(what: str, events: Sequence[Any], transitions: Mapping[Any, Any]) -> Iterator[str]:
    state, fence = events[0].state, events[0].fence
    for event in events[1:]:
        if event.fence < fence:
            yield f"{what}: {event.event} under the stale fence {event.fence}, after {fence}"
        if transitions.get((state, event.event)) != event.state:
            yield f"{what}: {event.event} from {state} to {event.state}"
        if event.event == "claim" and event.fence != fence + 1:
            yield f"{what}: claimed under fence {event.fence}, after {fence}"
        state, fence = event.state, event.fence


def _stale_results(tx: Transaction) -> Iterator[str]:
    """What a job yielded is of the attempt that ended it, and of one alone."""
    ended = tx.execute(select(job_event.c.job_id, job_event.c.fence).where(job_event.c.event == "finish"))
    fences = {row.job_id: row.fence for row in ended}
    made = select(result.c.job_id, result.c.SOPInstanceUID, result.c.fence).where(result.c.role != "NOTICE")
    for row in tx.execute(made):
        ended_under = fences.get(row.job_id)
        if row.fence != ended_under:
            yield f"result {row.SOPInstanceUID} is of fence {row.fence}, its job ended under {ended_under}"
    done = Counter(tx.execute(select(run.c.job_id).where(run.c.outcome == "done")).scalars())
    yield from (f"job {each} has {done[each]} runs that are done" for each in fences if done[each] != 1)


def _otherwise_archived(tx: Transaction, stores: Stores, archived: Archived) -> Iterator[str]:
    """What the archive has are the bytes that were fixed, and what counts as delivered it has."""
    fixed = dict[str, str | None]()
    for row in tx.execute(select(result.c.SOPInstanceUID, result.c.sha256)):
        intact = stores.objects.intact(row.sha256)
        fixed[row.SOPInstanceUID] = data_set_digest(stores.objects.read(row.sha256)) if intact else None
        if not intact:
            yield f"result {row.SOPInstanceUID} was made and its bytes are gone or altered"
    for uid, digests in archived.items():
        yield from _contents(uid, set(digests), fixed)
    confirmed = (
        select(result.c.SOPInstanceUID).join_from(delivery, result).where(delivery.c.state == "confirmed")
    )
    for uid in sorted({*tx.execute(confirmed).scalars()} - archived.keys()):
        yield f"result {uid} counts as delivered, and the archive has never taken it"


def _contents(uid: str, contents: Collection[str], fixed: Mapping[str, str | None]) -> Iterator[str]:
    if uid not in fixed:
        yield f"{uid} was archived and is no result of any job"
    elif len(contents) > 1:
        yield f"result {uid} was archived with {len(contents)} contents"
    elif fixed[uid] not in (None, *contents):
        yield f"result {uid} was archived with other bytes than were fixed"


def data_set_digest(file: bytes) -> str:
    """Of a DICOM file without its head: each who keeps one writes a head of its own (PS3.10 7.1)."""
    return hashlib.sha256(file[144 + int.from_bytes(file[140:144], "little") :]).hexdigest()
