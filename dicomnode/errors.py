"""Every error that dicomnode raises on purpose.

::

    DicomnodeError
    ├── ConfigError              config.toml, a manifest or a rule is wrong: nothing starts
    │   └── RuleError            a CEL rule that does not compile
    ├── StoreError
    │   ├── StorageFull          less than the configured free space is left
    │   ├── StorageFailed        the disk or the database refused: nothing was acknowledged
    │   │   ├── DiskFailed       a write or a sync failed: only a restart may trust this disk again
    │   │   └── ObjectsAway      the object store elsewhere did not answer, or refused: it may later
    │   └── SchemaMismatch       the database has a schema that this version does not know
    ├── IngestError              an instance that is refused for good
    │   ├── NotDicom             cannot be read as a data set
    │   ├── InstanceTooLarge     its data set is longer than may be
    │   ├── MissingUID           a UID that names the instance is not there
    │   ├── InvalidUID           it is there and is no UID
    │   ├── UIDMismatch          the request names another study, SOP class or instance than the data set
    │   ├── ClassRefused         instances of this SOP class are not stored
    │   ├── SyntaxRefused        data sets in this transfer syntax are not stored
    │   └── DuplicateDiffers     the same UIDs, other content: the first one is kept
    ├── QueryRefused             a C-FIND identifier that does not suit the query model
    │   └── QueryNotUnderstood   it cannot be read
    ├── RequestError             an HTTP request that is refused (PS3.18 8.5)
    │   ├── BadRequest           its header, path, query or body cannot be read
    │   ├── Forbidden            it comes from where nobody may come from
    │   ├── Unauthorized         it does not say who it is from, or not so that it can be believed
    │   ├── NotEntitled          its token has not the role that is asked for
    │   ├── KeysAway             its token cannot be checked: the provider's keys cannot be had
    │   ├── Misdirected          it calls the node by a name that is not the node's
    │   ├── NotAcceptable        it accepts nothing of what there is
    │   ├── TooManyRequests      its address sends too many a second
    │   ├── RequestTooSlow       its body does not come
    │   ├── RequestTooLarge      its body is longer than may be
    │   └── UnsupportedMediaType its body is of a kind that is not taken
    ├── CommitmentRefused        a storage commitment request that cannot be taken
    │   ├── CommitmentNotUnderstood   it lacks its UID or its instances, or cannot be read
    │   ├── NoSuchAction         another action than "request storage commitment"
    │   ├── NoSuchCommitment     another instance than the well-known one, or a transaction that was not ours
    │   └── DuplicateTransaction the peer used its Transaction UID for other instances
    ├── NotificationRefused      an IAN or MPPS request that cannot be taken (PS3.4 F, R)
    │   ├── AttributeMissing     it lacks what it must have
    │   ├── AttributeInvalid     what it has cannot be read, or is none of the values that may be
    │   ├── NoSuchStep           a performed procedure step that nobody created here
    │   ├── DuplicateStep        one that somebody has created here
    │   └── StepIsOver           one that is completed or discontinued
    ├── WorkItemError            a UPS request that is refused (PS3.4 CC.2, PS3.18 11)
    │   ├── WorkItemRefused      what it asks for is incomplete, or nothing that this node does
    │   ├── WorkItemExists       its UID is another work item's
    │   ├── WorkItemConflict     it does not suit the state that the work item is in
    │   ├── TransactionUIDMissing     only the performer may ask for this
    │   └── TransactionUIDIncorrect   it is not the performer's
    ├── StateError
    │   ├── IllegalTransition    the state table has no such edge
    │   ├── LeaseLost            another owner holds it now: what was done is discarded
    │   ├── SeriesOpen           the series still arrives
    │   └── NotFound             no such study, series, job or delivery
    │       └── Gone             it was there; its bytes have been removed
    ├── Refused                  the input does not suit the pipeline; carries a reason code
    ├── RunError                 one attempt at a job failed
    │   ├── RunTimedOut          over its wall-clock limit; its process group was ended
    │   ├── RunCrashed           the child process died
    │   ├── RunLost              the machine that ran it, or its process there, is gone
    │   ├── RunCancelled         it was cut: the node stops, or the job is no longer ours
    │   └── RunFailed            the pipeline raised
    ├── InputChanged             a frozen input set is not what the job was made for
    ├── PipelineChanged          the pipeline is not the one that the job was made for
    ├── GateFailed               an encoded result is not what was computed: it is never sent
    └── PeerError                a peer could not be reached, or did not take what was sent
        ├── DimseError
        │   ├── AssociationFailed    no association, or it was lost
        │   ├── ContextRefused       the peer takes this SOP class in no transfer syntax we can send
        │   └── StoreRefused         the peer answered C-STORE with a failure status
        └── WebError
            ├── WebUnreachable       no answer, or none in time
            ├── WebRefused           the peer answered the request with a status that is no success
            └── WebStoreRefused      the peer did not store this instance (PS3.18 I.2.2)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class DicomnodeError(Exception):
    """The root of the tree. Each is the same in another process: its text and its facts go with it."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[DicomnodeError], args: tuple[object, ...], facts: dict[str, object]
) -> DicomnodeError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(facts)
    return error


class ConfigError(DicomnodeError):
    """A setting is wrong; says file, key and what is wrong."""

    def __init__(self, file: Path | str, problems: list[str]) -> None:
        self.file, self.problems = str(file), problems
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))


class RuleError(ConfigError):
    """A CEL rule does not compile."""


class StoreError(DicomnodeError):
    """The store could not keep or find what it was asked for."""


class StorageFull(StoreError):
    """Less than the configured free space is left."""

    def __init__(self, free: int, needed: int) -> None:
        self.free, self.needed = free, needed
        super().__init__(f"{free} bytes are free, {needed} must stay free")


class StorageFailed(StoreError):
    """The disk or the database refused; nothing was acknowledged."""


class DiskFailed(StorageFailed):
    """A write or a sync failed; what the disk holds is unknown until a restart has looked."""


class ObjectsAway(StorageFailed):
    """The object store did not answer, or refused; says what it was asked for, and no address or key."""

    def __init__(self, what: str, why: str) -> None:
        self.what, self.why = what, why
        super().__init__(f"the object store did not {what}: {why}")


class SchemaMismatch(StoreError):
    """The database has a schema that this version does not know."""

    def __init__(self, found: str | None, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(
            f"the database is at schema {found or 'none'}, this version needs {expected}; "
            "run `dicomnode db upgrade`"
        )


class IngestError(DicomnodeError):
    """An instance is refused for good."""


class NotDicom(IngestError):
    """The bytes cannot be read as a data set in the transfer syntax that was negotiated."""


class InstanceTooLarge(IngestError):
    """Its data set, as it comes or inflated, is longer than the limits allow."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the data set is longer than {limit} bytes")


class MissingUID(IngestError):
    """A UID without which there is no instance is not there."""

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword
        super().__init__(f"{keyword} is missing")


class InvalidUID(IngestError):
    """What stands in the place of a UID is none (PS3.5 9.1)."""

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword
        super().__init__(f"{keyword} is not a valid UID")


class ClassRefused(IngestError):
    """Instances of this SOP class are not stored."""

    def __init__(self) -> None:
        super().__init__("the SOP class is none whose instances are stored")


class SyntaxRefused(IngestError):
    """Data sets in this transfer syntax are not stored."""

    def __init__(self) -> None:
        super().__init__("the transfer syntax is none that data sets are stored in")


class UIDMismatch(IngestError):
    """The request and the data set disagree about which instance this is."""

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword
        super().__init__(f"{keyword} of the data set is not the one that the request names")


class DuplicateDiffers(IngestError):
    """The same UIDs with other content; the first one is kept."""

    def __init__(self, SOPInstanceUID: str) -> None:
        self.SOPInstanceUID = SOPInstanceUID
        super().__init__(f"{SOPInstanceUID} is already stored with other content")


class QueryRefused(DicomnodeError):
    """A C-FIND identifier does not suit the query model (PS3.4 C.4.1.1.3); says which key."""

    def __init__(self, keyword: str, problem: str) -> None:
        self.keyword = keyword
        super().__init__(f"{keyword} {problem}")


class QueryNotUnderstood(QueryRefused):
    """A C-FIND identifier cannot be read."""


class RequestError(DicomnodeError):
    """An HTTP request is refused (PS3.18 8.5)."""


class BadRequest(RequestError):
    """Its header, path, query or body cannot be read; the text goes to the client."""


class Forbidden(RequestError):
    """It comes from where nobody may come from."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(f"web.accept lets nobody in from {address}")


class ForeignPage(RequestError):
    """A browser sends it for a page of somebody else (RFC 6454 7)."""

    def __init__(self) -> None:
        super().__init__("its Origin is neither the node nor one of web.cors_origins")


class Unauthorized(RequestError):
    """It does not say who it is from, or not so that it can be believed (RFC 9110 15.5.2).

    `challenges` are what it may come back with, as WWW-Authenticate has them.
    """

    def __init__(self, challenges: Iterable[str]) -> None:
        self.challenges = tuple(challenges)
        super().__init__("say who you are")


class NotEntitled(RequestError):
    """Its token is valid, and has not the role that is asked for."""

    def __init__(self, role: str) -> None:
        self.role = role
        super().__init__(f"the role {role} is needed")


class KeysAway(RequestError):
    """Its token cannot be checked: the provider's keys cannot be had, or read."""

    def __init__(self) -> None:
        super().__init__("the keys that tokens are signed with cannot be had: come again")


class Misdirected(RequestError):
    """It calls the node by a name that is not the node's (RFC 9110 15.5.20)."""

    def __init__(self) -> None:
        super().__init__("the Host header names no address, not this machine, and none of web.host_names")


class NotAcceptable(RequestError):
    """It accepts nothing of what there is."""

    def __init__(self, offers: Iterable[str]) -> None:
        self.offers = tuple(offers)
        super().__init__(f"there is {', '.join(self.offers)}")


class TooManyRequests(RequestError):
    """Its address sends too many requests a second (RFC 6585 4)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"no more than {limit} requests a second come from one address")


class TooManyGuesses(RequestError):
    """Its address has sent wrong credentials too often (RFC 6585 4)."""

    def __init__(self) -> None:
        super().__init__("too many wrong credentials came from this address")


class RequestTooSlow(RequestError):
    """Its body does not come."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(f"the body did not come within {limit_s:g} s")


class RequestTooLarge(RequestError):
    """Its body is longer, or has more parts, than may be."""

    def __init__(self, maximum: int, unit: str = "bytes") -> None:
        self.maximum = maximum
        super().__init__(f"at most {maximum} {unit} are taken")


class UnsupportedMediaType(RequestError):
    """Its body is of a kind that is not taken."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not taken")


class CommitmentRefused(DicomnodeError):
    """A storage commitment request, or a report, that cannot be taken."""


class CommitmentNotUnderstood(CommitmentRefused):
    """It lacks its UID or its instances, or cannot be read."""


class NoSuchAction(CommitmentRefused):
    """Another action, or event, than Storage Commitment has (PS3.4 J.3)."""


class NoSuchCommitment(CommitmentRefused):
    """Another instance than the well-known one (PS3.4 J.3.5), or a transaction that we did not ask for."""


class DuplicateTransaction(CommitmentRefused):
    """The peer used its Transaction UID for other instances."""

    def __init__(self, TransactionUID: str) -> None:
        self.TransactionUID = TransactionUID
        super().__init__(f"transaction {TransactionUID} is about other instances")


class NotificationRefused(DicomnodeError):
    """An IAN or MPPS request cannot be taken (PS3.4 F.7, R.3)."""


class AttributeMissing(NotificationRefused):
    """It lacks an attribute that it must have."""

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword
        super().__init__(f"{keyword} is missing")


class AttributeInvalid(NotificationRefused):
    """An attribute cannot be read, or has none of the values that it may have."""

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword
        super().__init__(f"{keyword} is not valid")


class NoSuchStep(NotificationRefused):
    """Nobody created this performed procedure step here."""

    def __init__(self) -> None:
        super().__init__("no such performed procedure step")


class DuplicateStep(NotificationRefused):
    """Somebody has created this performed procedure step here."""

    def __init__(self) -> None:
        super().__init__("the performed procedure step is there already")


class StepIsOver(NotificationRefused):
    """A step that is completed or discontinued is not changed any more (PS3.4 F.7.2.2.2)."""

    def __init__(self) -> None:
        super().__init__("the performed procedure step is over")


class WorkItemError(DicomnodeError):
    """A UPS request is refused; the text is what its Warning header says (PS3.18 11)."""


class WorkItemRefused(WorkItemError):
    """What it asks for is incomplete, or nothing that this node does; says which attribute."""

    def __init__(self, keyword: str, problem: str) -> None:
        self.keyword = keyword
        super().__init__(f"{keyword} {problem}.")


class WorkItemIncomplete(WorkItemRefused):
    """An attribute that it needs is missing."""

    def __init__(self, keyword: str) -> None:
        super().__init__(keyword, "is required")


class WorkItemNotScheduled(WorkItemRefused):
    """A work item that is created is SCHEDULED."""

    def __init__(self) -> None:
        super().__init__("ProcedureStepState", "is not SCHEDULED")


class WorkItemExists(WorkItemError):
    """Its UID is another work item's."""

    def __init__(self) -> None:
        super().__init__("The Workitem already exists.")


class WorkItemConflict(WorkItemError):
    """It does not suit the state that the work item is in."""


class WorkItemCompleted(WorkItemConflict):
    """It has ended well: there is nothing to cancel."""

    def __init__(self) -> None:
        super().__init__("The UPS is already COMPLETED.")


class TransactionUIDMissing(WorkItemError):
    """Only the performer of a work item may ask for this, and it has to show that it is."""

    def __init__(self) -> None:
        super().__init__("The Transaction UID is missing.")


class TransactionUIDIncorrect(WorkItemError):
    """It is not the performer's."""

    def __init__(self) -> None:
        super().__init__("The Transaction UID is incorrect.")


class StateError(DicomnodeError):
    """A row is not in the state that the caller took it to be in."""


class IllegalTransition(StateError):
    """The state table has no such edge."""

    def __init__(self, state: str, event: str) -> None:
        self.state, self.event = state, event
        super().__init__(f"{event} is not possible in state {state}")


class LeaseLost(StateError):
    """Another owner holds the row now; what this one did is discarded."""

    def __init__(self, kind: str, id_: int) -> None:
        self.kind, self.id = kind, id_
        super().__init__(f"the lease on {kind} {id_} was lost")


class SeriesOpen(StateError):
    """The series still arrives: its next generation comes by itself."""

    def __init__(self, SeriesInstanceUID: str) -> None:
        super().__init__(f"series {SeriesInstanceUID} still arrives; what is complete is routed by itself")


class NotFound(StateError):
    """There is no such study, series, job or delivery."""

    def __init__(self, kind: str, id_: object) -> None:
        self.kind, self.id = kind, id_
        super().__init__(f"no {kind} {id_}")


class NoSuchWorkItem(NotFound):
    """There is no work item of this UID here."""

    def __init__(self, SOPInstanceUID: str) -> None:
        super().__init__("work item", SOPInstanceUID)


class NoSuchSubscription(NotFound):
    """This AE is told of nothing of the kind (PS3.18 11.11.3, 11.12.3)."""

    def __init__(self, ae_title: str) -> None:
        super().__init__("such subscription of", ae_title)


class Gone(NotFound):
    """It was there; retention has removed its bytes."""


class Refused(DicomnodeError):
    """The input does not suit the pipeline; running it again would not change that."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}")


class RunError(DicomnodeError):
    """One attempt at a job failed; another may succeed."""

    code = "RUN_FAILED"


class RunTimedOut(RunError):
    """The run was over its wall-clock limit; its process group was ended."""

    code = "TIMED_OUT"

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(f"no result within {limit_s:g} s")


class RunCrashed(RunError):
    """The child process died."""

    code = "CRASHED"

    def __init__(self, returncode: int | None) -> None:
        self.returncode = returncode
        super().__init__(f"the pipeline's process ended with {returncode}")


class RunOutOfMemory(RunError):
    """The run needed more memory than its pipeline declares, or than the GPU has; its process was ended."""

    code = "OUT_OF_MEMORY"


class TooLittleMemory(RunOutOfMemory):
    """Even a frugal run needed more; another attempt would too."""


class TooManyProcesses(RunError):
    """The run started more processes than any may have at a time; all of them were ended."""

    code = "TOO_MANY_PROCESSES"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the run had more than {limit} processes at a time")


class RunLost(RunError):
    """The machine of a cluster that ran it, or its process there, is gone, or cannot be reached."""

    code = "RUN_LOST"

    def __init__(self) -> None:
        super().__init__("the machine that ran it, or its process there, is gone")


class RunCancelled(RunError):
    """The run was cut: the node stops, or the job is no longer ours."""

    code = "CANCELLED"


class RunFailed(RunError):
    """The pipeline raised; `kind` is the exception's class, never its values.

    `why` says what is wrong with its answer, where the node found that itself.
    """

    code = "PIPELINE_ERROR"

    def __init__(self, kind: str, where: str, why: str = "") -> None:
        self.kind, self.where, self.why = kind, where, why
        super().__init__(why or f"{kind} in {where}")


class InputChanged(DicomnodeError):
    """The rows of a frozen input set are not those that the job was made for."""

    code = "INPUT_CHANGED"

    def __init__(self) -> None:
        super().__init__("the stored instances are not those that the job was made for")


class InputLeft(DicomnodeError):
    """Bytes of a frozen input set have left this machine since, as retention allows."""

    code = "INPUT_LEFT"

    def __init__(self) -> None:
        super().__init__("instances of the series have left: send all of it again, then retry the job")


class PipelineChanged(DicomnodeError):
    """The pipeline is not installed, or not in the version that the job was made for."""

    code = "PIPELINE_CHANGED"

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"{pipeline} is not installed as it was when the job was made; retry takes it as it is"
        )


class GateFailed(DicomnodeError):
    """An encoded result is not what was computed; it is never sent."""

    code = "GATE_FAILED"


class PeerError(DicomnodeError):
    """A peer could not be reached, or did not take what was sent."""


class DimseError(PeerError):
    """So it was by DIMSE."""


class AssociationFailed(DimseError):
    """No association with the peer, or it was lost."""


class ContextRefused(DimseError):
    """The peer takes this SOP class in no transfer syntax that can be sent without loss."""

    def __init__(self, SOPClassUID: str, TransferSyntaxUID: str) -> None:
        self.SOPClassUID, self.TransferSyntaxUID = SOPClassUID, TransferSyntaxUID
        super().__init__(f"the peer refused {SOPClassUID} in {TransferSyntaxUID}")


class StoreRefused(DimseError):
    """The peer answered C-STORE with a failure status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"the peer answered status 0x{status:04X}")


class WebError(PeerError):
    """So it was by DICOMweb."""


class WebUnreachable(WebError):
    """No answer, or none in time."""


class WebRefused(WebError):
    """The peer answered the request with a status that is no success."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"the peer answered HTTP status {status}")


class WebStoreRefused(WebError):
    """The peer did not store this instance; the Failure Reason is that of PS3.18 I.2.2, or None."""

    def __init__(self, status: int | None) -> None:
        self.status = status
        reason = "without a reason" if status is None else f"for reason 0x{status:04X}"
        super().__init__(f"the peer refused the instance {reason}")
