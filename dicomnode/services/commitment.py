"""Storage commitment: peers get a report on what they ask, and the reports of archives confirm deliveries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import structlog

from dicomnode.config import DeliverySection
from dicomnode.errors import DimseError, LeaseLost, NoSuchCommitment, NotFound, PeerError, StoreError
from dicomnode.model.commitment import (
    CommitmentReport,
    CommitmentRequest,
    FailureReason,
    OwedReport,
    Reference,
)
from dicomnode.model.delivery import Delivery
from dicomnode.model.instance import AssociationFacts
from dicomnode.services.heartbeat import Heartbeat
from dicomnode.services.patience import CHECK_AGAIN_S, retry_wait_s
from dicomnode.store import commitments, deliveries
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

HOLD_S = 5.0
"""So long a report belongs to the receiver, which can send it on the association of its request."""
ASKED_AT_ONCE = 500
"""Instances in one request to an archive."""
SAME_ASSOCIATION_REPORTS = 4

Reply = Callable[[CommitmentReport], None]
Ask = Callable[[CommitmentRequest], None]
"""Ask an archive; raises PeerError where it did not take the request."""
ReportTo = Callable[[str, CommitmentReport], None]
"""Report to the application entity of that title on a new association; raises DimseError."""


class CommitmentProvider:
    """Answers peers that ask us to keep what they sent; safe to call from several threads at once."""

    def __init__(self, database: Database, objects: Objects, settings: DeliverySection) -> None:
        self._database, self._objects, self._settings = database, objects, settings
        self._replies = ThreadPoolExecutor(SAME_ASSOCIATION_REPORTS, "commitment")

    def take(self, request: CommitmentRequest, facts: AssociationFacts, reply: Reply) -> None:
        """Write the request down. When this returns, the peer will be told, whatever is killed meanwhile.

        The report goes out on the same association, if that is still open when everything was looked at.
        Raises DuplicateTransaction, StoreError.
        """
        with self._database.begin() as tx:
            commitment_id = commitments.receive(tx, facts.calling_ae, request, HOLD_S)
        log.info("commitment.requested", commitment=commitment_id, instances=len(request.references))
        with suppress(RuntimeError):  # closed: the engine reports
            self._replies.submit(self._reply, commitment_id, reply)

    def close(self) -> None:
        """Begin no further report; what is not out is the engine's."""
        self._replies.shutdown(wait=False, cancel_futures=True)

    def tick(self, report_to: ReportTo) -> int:
        """Report what is due, on new associations; returns how many reports were taken up."""
        with self._database.read() as tx:
            if not commitments.any_due(tx):
                return 0
        with self._database.begin() as tx:
            commitments.expire(tx)
            owed = commitments.claim(tx, self._settings.lease_s)
        for each in owed:
            with suppress(LeaseLost), self._kept(each):
                self._report(each, report_to)
        return len(owed)

    def _reply(self, commitment_id: int, reply: Reply) -> None:
        """Report on the association of the request; where that fails, it is the engine's at once."""
        try:
            with self._database.begin() as tx:
                owed = commitments.claim_one(tx, commitment_id, self._settings.lease_s)
            if owed is None:
                return
            try:
                with self._kept(owed):
                    reply(self._said(owed))
            except DimseError as error:
                log.info("commitment.not_on_same", commitment=owed.id, error=type(error).__name__)
                with self._database.begin() as tx:
                    commitments.hand_back(tx, owed.lease)
                return
            self._note_reported(owed)
        except (LeaseLost, StoreError) as error:
            log.warning("commitment.not_noted", commitment=commitment_id, error=type(error).__name__)
        except Exception:  # the edge of a request: recorded, and the engine reports
            log.exception("commitment.error", commitment=commitment_id)

    def _report(self, owed: OwedReport, report_to: ReportTo) -> None:
        try:
            report_to(owed.peer, self._said(owed))
        except DimseError as error:
            with self._database.begin() as tx:
                state = commitments.fail(
                    tx,
                    owed.lease,
                    str(error),
                    wait_s=retry_wait_s(self._settings, owed.attempt),
                    give_up_after_s=self._settings.give_up_after_s,
                )
            log.warning("commitment.not_reported", commitment=owed.id, attempt=owed.attempt, state=state)
            return
        self._note_reported(owed)

    def _note_reported(self, owed: OwedReport) -> None:
        with self._database.begin() as tx:
            commitments.reported(tx, owed.lease)
        log.info("commitment.reported", commitment=owed.id, attempt=owed.attempt)

    def _said(self, owed: OwedReport) -> CommitmentReport:
        """Look at every instance, and write down what will be said of it before it is said."""
        references = owed.request.references
        with self._database.read() as tx:
            held = commitments.held_objects(tx, [reference.SOPInstanceUID for reference in references])
        failed = {
            reference: reason
            for reference in references
            if (reason := self._failure(reference, held.get(reference.SOPInstanceUID, []))) is not None
        }
        with self._database.begin() as tx:
            commitments.note_outcomes(tx, owed.lease, failed)
        committed = [reference for reference in references if reference not in failed]
        return CommitmentReport(owed.request.TransactionUID, committed, list(failed.items()))

    def _failure(self, reference: Reference, held: Sequence[tuple[str, str]]) -> FailureReason | None:
        if not held:
            return FailureReason.NO_SUCH_OBJECT_INSTANCE
        of_class = [sha256 for SOPClassUID, sha256 in held if SOPClassUID == reference.SOPClassUID]
        if not of_class:
            return FailureReason.CLASS_INSTANCE_CONFLICT
        # A copy that is right is no promise where the store itself has lost the object.
        if not any(self._objects.has(sha256) and self._objects.intact(sha256) for sha256 in of_class):
            log.error("commitment.object_lost", sha256=of_class[0])
            return FailureReason.NO_SUCH_OBJECT_INSTANCE
        return None

    def _kept(self, owed: OwedReport) -> Heartbeat:
        def extend() -> None:
            with self._database.begin() as tx:
                commitments.extend(tx, owed.lease, self._settings.lease_s)

        return Heartbeat(extend, self._settings.lease_s / 3)


class ConfirmByCommitment:
    """Asks one destination to commit itself to what it accepted, and sends again what it does not have."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        destination: str,
        ask: Ask,
        settings: DeliverySection,
    ) -> None:
        self._database, self._objects = database, objects
        self._destination, self._ask, self._settings = destination, ask, settings

    def tick(self) -> int:
        """Ask for what is due, in one transaction of the standard; returns how many deliveries that were."""
        TransactionUID = f"2.25.{uuid4().int}"
        with self._database.begin() as tx:
            claimed = deliveries.claim_checks(
                tx,
                self._destination,
                CHECK_AGAIN_S,
                self._settings.backoff_limit_s,
                self._objects.located,
                ASKED_AT_ONCE,
            )
            sent = [
                delivery
                for delivery in claimed
                if not deliveries.give_up_if_old(
                    tx, delivery.lease, "no commitment", self._settings.give_up_after_s
                )
            ]
            if not sent:
                return len(claimed)
            limit_s = self._settings.report_limit_s
            commitment_id = commitments.ask(tx, self._destination, TransactionUID, sent, limit_s)
        self._request(commitment_id, TransactionUID, sent)
        return len(claimed)

    def _request(self, commitment_id: int, TransactionUID: str, sent: Sequence[Delivery]) -> None:
        references = [
            Reference(delivery.instance.SOPClassUID, delivery.instance.SOPInstanceUID) for delivery in sent
        ]
        refusal = None
        try:
            self._ask(CommitmentRequest(TransactionUID, references))
        except PeerError as error:
            refusal = str(error)
            log.warning("delivery.check_failed", deliveries=len(sent), error=type(error).__name__)
        with self._database.begin() as tx:
            waits = commitments.note_answer(tx, commitment_id, refusal)
            if waits and refusal is None:
                for delivery in sent:
                    deliveries.await_report(tx, delivery.lease, self._settings.report_limit_s)


class CommitmentReports:
    """Takes the reports of archives, in whatever process and on whatever association they come."""

    def __init__(self, database: Database, settings: DeliverySection) -> None:
        self._database, self._settings = database, settings

    def take(self, report: CommitmentReport) -> None:
        """Settle the deliveries that it speaks of; durable on return.

        What is committed is confirmed, whoever asked when; what failed is sent again, unless it was asked
        about anew since. Raises NoSuchCommitment where we asked for no such transaction, StoreError.
        """
        outcomes = {**dict.fromkeys(report.committed, commitments.COMMITTED), **dict(report.failed)}
        try:
            with self._database.begin() as tx:
                said = commitments.take_report(tx, report.TransactionUID, outcomes)
                confirmed = 0
                for asked, outcome in said.items():
                    lease = deliveries.sent_lease(tx, asked.id)
                    if lease is None:
                        continue
                    if outcome == commitments.COMMITTED:
                        deliveries.confirm(tx, lease)
                        confirmed += 1
                    elif lease == asked:
                        deliveries.miss(
                            tx,
                            lease,
                            1,
                            wait_s=self._settings.backoff_s,
                            give_up_after_s=self._settings.give_up_after_s,
                        )
        except NotFound:
            raise NoSuchCommitment("not a transaction that was asked for") from None
        log.info("delivery.report", instances=len(outcomes), deliveries=len(said), confirmed=confirmed)
