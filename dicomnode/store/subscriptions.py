"""Who is told of which work item, and what each of them was not told yet (PS3.4 CC.2.3, CC.2.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from sqlalchemy import Table, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from dicomnode.model.query import AnyOf, Fuzzy, Match, Range, Single, Wildcard
from dicomnode.model.workitem import Attributes
from dicomnode.store import workitems
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import identity, notification, subscriber, subscription, worklist_subscription

Filter: TypeAlias = Mapping[str, Match]
_KINDS: Mapping[str, Callable[..., Match]] = {
    kind.__name__: kind for kind in (Single, AnyOf, Wildcard, Range, Fuzzy)
}


def subscribe(tx: Transaction, ae_title: str, workitem_ids: Sequence[int]) -> list[int]:
    """Tell this AE of these work items; those of which it was not told before."""
    known = set(
        tx.execute(select(subscription.c.workitem_id).where(subscription.c.ae_title == ae_title)).scalars()
    )
    fresh = [workitem_id for workitem_id in workitem_ids if workitem_id not in known]
    for workitem_id in fresh:
        _insert_new(tx, subscription, {"ae_title": ae_title, "workitem_id": workitem_id})
    return fresh


def subscribe_worklist(tx: Transaction, ae_title: str, filter_: Filter | None) -> None:
    """Tell this AE of every work item to come, or of those that match; an earlier filter is replaced."""
    _take_turns(tx, alone=True)
    unsubscribe_worklist(tx, ae_title, filtered=filter_ is not None)
    written = {keyword: _written(match) for keyword, match in (filter_ or {}).items()}
    row = {"ae_title": ae_title, "filtered": filter_ is not None, "filter": written}
    _insert_new(tx, worklist_subscription, row)


def unsubscribe(tx: Transaction, ae_title: str, workitem_id: int | None) -> int:
    """Tell this AE of that work item no more, None for all; how many subscriptions there were."""
    gone = delete(subscription).where(subscription.c.ae_title == ae_title)
    if workitem_id is not None:
        gone = gone.where(subscription.c.workitem_id == workitem_id)
    return tx.execute(gone).rowcount


def unsubscribe_worklist(tx: Transaction, ae_title: str, *, filtered: bool) -> int:
    """Tell this AE of no further work items; how many subscriptions there were."""
    return tx.execute(
        delete(worklist_subscription).where(
            worklist_subscription.c.ae_title == ae_title, worklist_subscription.c.filtered == filtered
        )
    ).rowcount


def subscribe_watchers(tx: Transaction, workitem_id: int) -> None:
    """Those who asked for every work item, or for such as this one, are told of it from here on."""
    _take_turns(tx, alone=False)
    for row in tx.execute(select(worklist_subscription)).all():
        wanted = {keyword: _read(match) for keyword, match in row.filter.items()}
        if workitems.is_matched(tx, workitem_id, wanted):
            _insert_new(tx, subscription, {"ae_title": row.ae_title, "workitem_id": workitem_id})


def notify(tx: Transaction, workitem_id: int, report: Attributes, only: str | None = None) -> None:
    """Queue a report for each subscriber of a locked work item, or for one of them."""
    told = tx.execute(
        select(subscription.c.ae_title).where(subscription.c.workitem_id == workitem_id)
    ).scalars()
    rows = [{"ae_title": ae_title, "report": report} for ae_title in told if only is None or ae_title == only]
    if rows:
        tx.execute(insert(notification).values([{**row, "at": Now()} for row in rows]))


def notify_watchers(tx: Transaction, report: Attributes) -> None:
    """Queue a report about the worklist itself for each who subscribed to it."""
    told = tx.execute(select(worklist_subscription.c.ae_title).distinct()).scalars().all()
    if told:
        rows = [{"ae_title": ae_title, "report": report, "at": Now()} for ae_title in told]
        tx.execute(insert(notification).values(rows))


def connect(tx: Transaction, ae_title: str, connection: str) -> None:
    """From here on this connection is the AE's, and an earlier one is not."""
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(subscriber).values(ae_title=ae_title, connection=connection)
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["ae_title"], set_={"connection": statement.excluded.connection}
        )
    )


def is_connected(tx: Transaction, ae_title: str, connection: str) -> bool:
    """True while no later connection has taken the AE's place."""
    current = select(subscriber.c.connection).where(subscriber.c.ae_title == ae_title)
    return tx.execute(current).scalar() == connection


def pending(tx: Transaction, ae_title: str, limit: int) -> list[tuple[int, Attributes]]:
    """The oldest reports that wait for this AE, with their ids, in the order in which they were made."""
    rows = tx.execute(
        select(notification.c.id, notification.c.report)
        .where(notification.c.ae_title == ae_title)
        .order_by(notification.c.id)
        .limit(limit)
    )
    return [(row.id, row.report) for row in rows]


def latest(tx: Transaction) -> int:
    """The number of the newest report that waits for anybody; 0 where none does."""
    return int(tx.execute(select(func.coalesce(func.max(notification.c.id), 0))).scalar_one())


def sent(tx: Transaction, notification_ids: Sequence[int]) -> None:
    """These reports are with their subscriber."""
    tx.execute(delete(notification).where(notification.c.id.in_(notification_ids)))


def trim(tx: Transaction, limit: int) -> int:
    """Let the oldest reports of each AE go that are more than `limit`; how many went."""
    waiting = select(notification.c.ae_title).group_by(notification.c.ae_title).having(func.count() > limit)
    gone = 0
    for ae_title in tx.execute(waiting).scalars().all():
        own = select(notification.c.id).where(notification.c.ae_title == ae_title)
        last = tx.execute(own.order_by(notification.c.id.desc()).offset(limit).limit(1)).scalar_one()
        gone += tx.execute(
            delete(notification).where(notification.c.ae_title == ae_title, notification.c.id <= last)
        ).rowcount
    return gone


def _take_turns(tx: Transaction, *, alone: bool) -> None:
    """No work item comes while somebody subscribes to all: one of the two would not see the other."""
    tx.execute(select(identity).with_for_update(read=not alone))


def _insert_new(tx: Transaction, table: Table, row: Mapping[str, Any]) -> None:
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    tx.execute(dialect.insert(table).values(**row).on_conflict_do_nothing())


def _written(match: Match) -> dict[str, Any]:
    return {"kind": type(match).__name__, **asdict(match)}


def _read(written: Mapping[str, Any]) -> Match:
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in written.items()
        if name != "kind"
    }
    return _KINDS[written["kind"]](**values)
