"""The DIMSE listener: everything that it offers, and its life."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from dicomnode.config import Config, DimseTLSSection
from dicomnode.dimse.commitment import commitment
from dicomnode.dimse.find import find
from dicomnode.dimse.get import get
from dicomnode.dimse.ian import ian
from dicomnode.dimse.move import move
from dicomnode.dimse.mpps import mpps
from dicomnode.dimse.receiver import AcceptRule, Receiver, ReceiverSettings, configure_pynetdicom
from dicomnode.dimse.service import Intake, Service
from dicomnode.dimse.storage import streamed_storage
from dicomnode.dimse.tls import ListenerTLS
from dicomnode.dimse.ups import ups_push
from dicomnode.dimse.users import Users
from dicomnode.dimse.verification import verification
from dicomnode.installation import Stores, open_registry
from dicomnode.roles.watching import Answer, Asked, listener_name, watch_disk
from dicomnode.services.announcements import Announcements
from dicomnode.services.attendance import listening
from dicomnode.services.commitment import CommitmentProvider, CommitmentReports
from dicomnode.services.find import Finder
from dicomnode.services.ingest import Incoming, Ingest
from dicomnode.services.retrieve import Retriever
from dicomnode.services.workitems import WorkItems
from dicomnode.supervisor import EXIT_DISK

log = structlog.get_logger()


def run_receiver(config: Config, stores: Stores, slot: int, stop: threading.Event) -> int:
    """Takes instances in until told to stop, or until the disk fails: then a restart verifies it."""
    configure_pynetdicom()
    failed = threading.Event()
    provider = CommitmentProvider(stores.database, stores.objects, config.delivery)
    ingest = Ingest(stores.database, stores.objects, config.ingest.limits)

    def watched(call: Callable[Asked, Answer]) -> Callable[Asked, Answer]:
        return watch_disk(call, failed, stop)

    intake = Intake(watched(ingest.begin), watched(Incoming.write), watched(ingest.store))
    services = receiver_services(config, stores, intake, provider)
    receiver = Receiver(receiver_settings(config), services)
    receiver.start()
    with listening(stores.database, listener_name(config) + (f"-{slot}" if slot > 1 else "")):
        log.info("receiver.listening", port=receiver.port, address=str(config.dimse.address))
        stop.wait()
        provider.close()
        receiver.stop(config.node.stop_limit_s * 0.8)
    return EXIT_DISK if failed.is_set() else 0


def receiver_services(
    config: Config, stores: Stores, intake: Intake, provider: CommitmentProvider
) -> list[Service]:
    """Everything that the receiver offers, each with what answers it."""
    finder = Finder(stores.database, config.node.ae_title)
    retriever = Retriever(stores.database, stores.objects)
    announcements = Announcements(stores.database)
    return [
        verification(),
        streamed_storage(intake),
        commitment(provider.take, CommitmentReports(stores.database, config.delivery).take),
        find(finder, finder.holds),
        move(retriever, config.peer_named, config.node.ae_title),
        get(retriever),
        ian(announcements.take),
        mpps(announcements.create_step, announcements.modify_step),
        ups_push(WorkItems(stores.database, open_registry(config), config)),
    ]


def receiver_settings(config: Config) -> ReceiverSettings:
    """`[dimse]` as the receiver takes it."""
    return ReceiverSettings(
        ae_title=config.node.ae_title,
        address=str(config.dimse.address),
        port=config.dimse.port,
        accept=tuple(AcceptRule(entry.ae_title, entry.address) for entry in config.dimse.accept),
        maximum_associations=config.dimse.maximum_associations,
        maximum_associations_per_peer=config.dimse.maximum_associations_per_peer,
        maximum_pdu=config.dimse.maximum_pdu,
        maximum_instance=config.ingest.limits.size,
        requests_per_second=config.dimse.requests_per_second,
        acse_timeout_s=config.dimse.acse_timeout_s,
        network_timeout_s=config.dimse.network_timeout_s,
        users=Users({user.name: user.passcode for user in config.dimse.users}, config.dimse.user_required),
        tls=listener_tls(config.dimse.tls),
        is_shared=config.dimse.processes > 1,
        slots=config.node.data / "associations",
    )


def listener_tls(section: DimseTLSSection) -> ListenerTLS | None:
    """`[dimse.tls]` as the receiver takes it; None where there is no certificate."""
    if not section.certificate:
        return None
    ca = section.ca if section.client_certificates == "required" else ""
    return ListenerTLS(section.port, section.certificate, section.key, ca)
