"""What parent and child say to each other: JSON lines over pipes. No pickle, in either direction.

::

    child                         parent
    Ready            ──────────►
                     ◄──────────  Request
    Progress         ──────────►  (any number, one a stage)
                     ◄──────────  Take          both have read the headers by then
    Decoded          ──────────►
                     ◄──────────  Proceed
    Done             ──────────►  label map (uint8) and maps (float32) lie in the scratch folder as .npy

Instead of Decoded or Done the child may say Refused or Failed. Instead of Take the parent may say Proceed:
nothing comes of the request then.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes; a request names every instance of a series."""
PREVIEW = ("across.npy", "along.npy", "upright.npy")
"""The names of the input's planes of `imaging.preview.Preview`, in its order (float32)."""
LABELS = "labels.npy"
"""The name of the label map in the scratch folder."""
PRED = "pred"
"""Under which a bundle leaves its label map."""
MOST_MARKS = 10_000
MOST_POINTS = 40_000
"""Of all marks together: what fits into a line."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Finite, Finite, Finite]
Text = Annotated[str, Field(max_length=300)]
Stage = Literal["decode", "preprocess", "forward", "postprocess", "measure"]


class ProtocolError(ValueError):
    """A line that is no message."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ready(_Message):
    """The bundle is loaded. `isolated`: no network; else `why` says what the kernel refused."""

    kind: Literal["ready"] = "ready"
    device: Text
    isolated: bool
    why: Text = ""


class Progress(_Message):
    """A stage begins."""

    kind: Literal["progress"] = "progress"
    stage: Stage


class VolumeFacts(_Message):
    """As `imaging.facts.volume_facts` gives them: mm, voxels, modality values."""

    spacing: tuple[Finite, Finite, Finite]
    shape: tuple[int, int, int]
    extent_mm: tuple[Finite, Finite, Finite]
    minimum: Finite
    maximum: Finite


class Decoded(_Message):
    """The input is read; the child waits for Proceed."""

    kind: Literal["decoded"] = "decoded"
    volume: VolumeFacts


class RefusedReply(_Message):
    """The input cannot be read as what the pipeline takes."""

    kind: Literal["refused"] = "refused"
    code: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,62}$")]
    reason: Text


class Statistics(_Message):
    """As `imaging.findings.SegmentStatistics`."""

    volume_ml: Finite
    mean: Finite
    sd: Finite
    largest_component: Fraction


class Mark(_Message):
    """As `imaging.findings.MarkFound`: points are indices (slice, row, column) on the grid of the input."""

    name: Text
    points: Annotated[tuple[Point, ...], Field(min_length=1, max_length=MOST_POINTS)]
    probability: Fraction | None = None


class Done(_Message):
    """The label map and the maps are written; what else was found, and the seconds of each stage.

    `gpu_memory_mb`: the most that this process held of a GPU so far.
    """

    kind: Literal["done"] = "done"
    statistics: dict[str, Statistics]
    values: dict[str, Finite]
    marks: Annotated[tuple[Mark, ...], Field(max_length=MOST_MARKS)] = ()
    answers: dict[str, Text] = {}
    timings: dict[Stage, Seconds]
    gpu_memory_mb: Annotated[int, Field(ge=0, le=10_000_000)] | None = None


Problem = Literal["absent", "off_grid", "fractions", "no_labels", "no_number", "no_points", "no_probability"]
PROBLEMS: Mapping[Problem, str] = MappingProxyType(
    {
        "absent": "is not there",
        "off_grid": "is not on the grid of the input",
        "fractions": "holds numbers that are not whole",
        "no_labels": "holds numbers that are no labels from 0 to 255",
        "no_number": "is no finite number",
        "no_points": "has points that are not finite (X, Y, Z)",
        "no_probability": "has a probability that is not from 0 to 1",
    }
)
"""What can be wrong with an answer, in the node's own words: a bundle's must not pass."""


class AnswerError(ValueError):
    """What a bundle leaves under `name` is not what its manifest declares."""

    def __init__(self, name: str, problem: Problem) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"{name} {PROBLEMS[problem]}")


class Failed(_Message):
    """The bundle raised: the exception's class and the place, never its values.

    `name` and `problem` are those of an AnswerError.
    """

    kind: Literal["failed"] = "failed"
    error: Text
    where: Text
    name: Text = ""
    problem: Problem | None = None


class PriorPaths(_Message):
    """A prior series: the name under which the bundle finds it, its instances, and its stack as of a Take."""

    key: Text
    paths: tuple[str, ...]
    stack: Annotated[int, Field(ge=0)] = 0


class Request(_Message):
    """One run over the instances at `paths`, which the child begins to read.

    `frugal`: with as little memory as can be, for one attempt had too little of it.
    """

    kind: Literal["request"] = "request"
    paths: tuple[str, ...]
    frugal: bool = False


class Take(_Message):
    """What the parent made of the headers: `stack` as `imaging.geometry.Geometry` has it, and the priors."""

    kind: Literal["take"] = "take"
    stack: Annotated[int, Field(ge=0)] = 0
    priors: tuple[PriorPaths, ...] = ()


class Proceed(_Message):
    """Whether the child shall go on with what it decoded."""

    kind: Literal["proceed"] = "proceed"
    go: bool


Reply = Ready | Progress | Decoded | RefusedReply | Done | Failed
Order = Request | Take | Proceed

_REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="kind")])
_ORDER: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="kind")])


def map_file(name: str) -> str:
    """The name of a map in the scratch folder."""
    return f"map-{name}.npy"


def encode(message: Reply | Order) -> bytes:
    """One line. Raises ProtocolError where it would be longer than allowed."""
    line = message.model_dump_json().encode() + b"\n"
    if len(line) > LONGEST_LINE:
        raise ProtocolError("the message is longer than a line may be")
    return line


def decode_reply(line: bytes) -> Reply:
    """What a child said. Raises ProtocolError."""
    try:
        return _REPLY.validate_json(line)
    except ValidationError:
        raise ProtocolError("the line is no reply") from None


def decode_order(line: bytes) -> Order:
    """What the parent said. Raises ProtocolError."""
    try:
        return _ORDER.validate_json(line)
    except ValidationError:
        raise ProtocolError("the line is no order") from None
