"""Every error that dicomnode raises on purpose.

::

    DicomnodeError
    ├── ConfigError              config.toml, a manifest or a rule is wrong: nothing starts
    │   └── RuleError            a CEL rule that does not compile
    ├── StoreError
    │   ├── StorageFull          less than the configured free space is left
    │   ├── StorageFailed        the disk or the database refused: nothing was acknowledged
    │   │   └── DiskFailed       a write or a sync failed: only a restart may trust this disk again
    │   └── SchemaMismatch       the database has a schema that this version does not know
    ├── IngestError              an instance that is refused for good
    │   ├── NotDicom             cannot be read as a data set
    │   ├── MissingUID           a UID that names the instance is not there
    │   ├── InvalidUID           it is there and is no UID
    │   ├── UIDMismatch          the command names another SOP class or instance than the data set
    │   └── DuplicateDiffers     the same UIDs, other content: the first one is kept
    ├── QueryRefused             a C-FIND identifier that does not suit the query model
    │   └── QueryNotUnderstood   it cannot be read
    ├── StateError
    │   ├── IllegalTransition    the state table has no such edge
    │   ├── LeaseLost            another owner holds it now: what was done is discarded
    │   └── NotFound             no such study, series, job or delivery
    ├── Refused                  the input does not suit the pipeline; carries a reason code
    ├── RunError                 one attempt at a job failed
    │   ├── RunTimedOut          over its wall-clock limit; its process group was ended
    │   ├── RunCrashed           the child process died
    │   ├── RunCancelled         it was cut: the node stops, or the job is no longer ours
    │   └── RunFailed            the pipeline raised
    ├── InputChanged             a frozen input set is not what the job was made for
    ├── PipelineChanged          the pipeline is not the one that the job was made for
    ├── GateFailed               an encoded result is not what was computed: it is never sent
    └── DimseError
        ├── AssociationFailed    no association, or it was lost
        ├── ContextRefused       the peer takes this SOP class in no transfer syntax we can send
        └── StoreRefused         the peer answered C-STORE with a failure status
"""

from __future__ import annotations

from pathlib import Path


class DicomnodeError(Exception):
    """The root of the tree."""


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


class UIDMismatch(IngestError):
    """The command set and the data set disagree about which instance this is."""

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


class NotFound(StateError):
    """There is no such study, series, job or delivery."""

    def __init__(self, kind: str, id_: object) -> None:
        self.kind, self.id = kind, id_
        super().__init__(f"no {kind} {id_}")


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


class RunCancelled(RunError):
    """The run was cut: the node stops, or the job is no longer ours."""

    code = "CANCELLED"


class RunFailed(RunError):
    """The pipeline raised; `kind` is the exception's class, never its values."""

    code = "PIPELINE_ERROR"

    def __init__(self, kind: str, where: str) -> None:
        self.kind, self.where = kind, where
        super().__init__(f"{kind} in {where}")


class InputChanged(DicomnodeError):
    """The rows of a frozen input set are not those that the job was made for."""

    code = "INPUT_CHANGED"

    def __init__(self) -> None:
        super().__init__("the stored instances are not those that the job was made for")


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


class DimseError(DicomnodeError):
    """A peer could not be reached, or did not take what was sent."""


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
