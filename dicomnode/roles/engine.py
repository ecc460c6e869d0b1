"""What happens by itself: completion, routing, delivery, reports, retention."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from dicomnode.config import Config
from dicomnode.dimse.commitment import report
from dicomnode.dimse.ian import announce
from dicomnode.dimse.receiver import configure_pynetdicom
from dicomnode.errors import AssociationFailed, DiskFailed, StoreError
from dicomnode.installation import Stores, open_registry
from dicomnode.model.announcement import AvailableInstance
from dicomnode.model.commitment import CommitmentReport
from dicomnode.model.topic import Topic
from dicomnode.pipeline.registry import Registry
from dicomnode.roles.watching import ARRIVING_S, LOOK_S, watch_disk
from dicomnode.services.availability import AvailabilityService
from dicomnode.services.commitment import CommitmentProvider
from dicomnode.services.comparison import ComparisonService
from dicomnode.services.completion import CompletionService
from dicomnode.services.delivery import tell_stranded
from dicomnode.services.destinations import courier_for
from dicomnode.services.evidence import EvidenceService
from dicomnode.services.evidence_source import archive_of
from dicomnode.services.expiry import expire_leases, follow_clock
from dicomnode.services.ingest import Ingest
from dicomnode.services.notices import NoticeService
from dicomnode.services.placement import place
from dicomnode.services.prior_source import prior_archive_of
from dicomnode.services.priors import PriorService
from dicomnode.services.repeating import Pace, repeat
from dicomnode.services.retention import RetentionService
from dicomnode.services.routing import RouteTable, RoutingService
from dicomnode.services.waking import Bell, Waking
from dicomnode.services.workitem_progress import WorkList
from dicomnode.supervisor import EXIT_DISK

log = structlog.get_logger()

_ASKED_AT_ONCE = 4
"""Series that the archive is asked about at a time."""


_TOLD_S = 0.5
"""How late a work item or a report to a peer may be told of without a signal."""

Work = tuple[str, Callable[[], int], Bell, float]
"""What it is called in the log, one breath of it, what wakes it, and the longest rest (s) without work."""


def run_engine(config: Config, stores: Stores, stop: threading.Event) -> int:
    """Completion, routing and expired leases in this thread; what waits for others has threads of its own."""
    configure_pynetdicom()
    failed = threading.Event()
    registry = open_registry(config)
    waking = Waking(stores.database, stop)
    completion = CompletionService(stores.database, config.completion)
    priors = _priors(config, stores, registry, failed, stop)
    priors.start()
    ticks = (
        lambda: expire_leases(stores.database, config.jobs.attempts),
        completion.tick,
        RoutingService(stores.database, stores.objects, RouteTable(config), registry).tick,
        NoticeService(stores.database, stores.objects, registry, config).tick,
        priors.give_up,
    )
    couriers = [
        courier_for(stores.database, stores.objects, destination, config.node.ae_title, config.delivery)
        for destination in config.destination
    ]
    worklist = WorkList(stores.database, stores.objects, RouteTable(config), registry, config)
    worklist.start()
    works: list[Work] = [
        ("worklist", worklist.tick, waking.bell(), _TOLD_S),
        *(
            ("delivery", partial(courier.tick, stop.is_set), waking.bell(Topic.DELIVERY), LOOK_S)
            for courier in couriers
        ),
        *_works(config, stores, stop, waking),
        *_evidence(config, stores, failed, stop, waking),
        *_seeking(watch_disk(priors.tick, failed, stop), stop, waking),
    ]
    threads = [
        threading.Thread(target=repeat, args=(what, tick, stop, bell, longest_s), daemon=True)
        for what, tick, bell, longest_s in works
    ]
    for thread in threads:
        thread.start()
    tell_stranded(stores.database, [destination.name for destination in config.destination])
    # While a series arrives it is looked at by the clock: a signal for each instance would cost it its speed.
    anything, completed = waking.bell(Topic.SERIES, Topic.COMPLETION), waking.bell(Topic.COMPLETION)
    pace = Pace(LOOK_S)
    try:
        with waking:
            while not stop.is_set():
                rest_s = pace.rest_s(busy=_breathe(ticks))
                if completed.wait(ARRIVING_S) if completion.arriving else anything.wait(rest_s):
                    pace.again()
    finally:
        stop.set()
        _join(threads, config.node.stop_limit_s * 0.6)
        for courier in couriers:
            courier.hand_back()
    return EXIT_DISK if failed.is_set() else 0


def _breathe(ticks: Sequence[Callable[[], int]]) -> bool:
    """True where one of them found something to do."""
    try:
        return sum(tick() for tick in ticks) > 0
    except DiskFailed:
        raise
    except StoreError as error:
        log.warning("engine.store_failed", error=str(error))
        return False


def _works(config: Config, stores: Stores, stop: threading.Event, waking: Waking) -> list[Work]:
    """Reports to peers, making room, what shadows made, and a clock that is set back."""
    provider = CommitmentProvider(stores.database, stores.objects, config.delivery)
    unconfirmable = [entry.name for entry in config.destination if entry.confirm == "none"]
    retention = RetentionService(stores.database, stores.objects, config.retention, unconfirmable)
    return [
        ("clock", partial(follow_clock, stores.database), waking.bell(), LOOK_S),
        ("placement", partial(place, stores.database, open_registry(config)), waking.bell(), LOOK_S),
        ("commitment", partial(provider.tick, partial(_report, config)), waking.bell(), _TOLD_S),
        ("retention", retention.tick, waking.bell(), config.retention.interval_s),
        ("comparison", ComparisonService(stores.database, stores.objects).tick, waking.bell(), LOOK_S),
        ("availability", partial(_availability(config, stores).tick, stop.is_set), waking.bell(), LOOK_S),
    ]


def _evidence(
    config: Config, stores: Stores, failed: threading.Event, stop: threading.Event, waking: Waking
) -> list[Work]:
    """Questions to the archive, several at a time; none where nobody is to be asked."""
    ingest = Ingest(stores.database, stores.objects, config.ingest.limits)
    archive = archive_of(config, config.completion.ask, ingest, watch_disk(ingest.store, failed, stop))
    if archive is None:
        return []
    ask = watch_disk(EvidenceService(stores.database, archive).tick, failed, stop)
    asking = partial(ask, stop.is_set)
    return [("evidence", asking, waking.bell(Topic.INQUIRY), LOOK_S) for _ in range(_ASKED_AT_ONCE)]


def _priors(
    config: Config, stores: Stores, registry: Registry, failed: threading.Event, stop: threading.Event
) -> PriorService:
    ingest = Ingest(stores.database, stores.objects, config.ingest.limits)
    archive = prior_archive_of(config, ingest, watch_disk(ingest.store, failed, stop))
    return PriorService(stores.database, stores.objects, registry, config.priors, archive)


def _seeking(tick: Callable[[Callable[[], bool]], int], stop: threading.Event, waking: Waking) -> list[Work]:
    """Searches for priors, several at a time. What was complete just now may be one."""
    return [
        ("priors", partial(tick, stop.is_set), waking.bell(Topic.PRIOR, Topic.COMPLETION), LOOK_S)
        for _ in range(_ASKED_AT_ONCE)
    ]


def _availability(config: Config, stores: Stores) -> AvailabilityService:
    """Tells of results; where they can be retrieved from are the destinations that speak DIMSE."""
    places = {entry.name: entry.dimse.ae_title for entry in config.destination if entry.dimse is not None}

    def tell(ae_title: str, SOPInstanceUID: str, instances: Sequence[AvailableInstance]) -> None:
        peer = config.peer_named(ae_title)
        if peer is None:
            raise AssociationFailed(f"there is no [[peer]] {ae_title!r}")
        announce(peer, config.node.ae_title, SOPInstanceUID, instances)

    return AvailabilityService(stores.database, config.delivery, places, tell)


def _report(config: Config, ae_title: str, said: CommitmentReport) -> None:
    """Only to where the configuration says: never to an address that a request came from."""
    peer = config.peer_named(ae_title)
    if peer is None:
        raise AssociationFailed(f"there is no [[peer]] {ae_title!r}")
    report(peer, config.node.ae_title, said)


def _join(threads: Sequence[threading.Thread], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
