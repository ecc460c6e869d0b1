"""What a pipeline declares of itself in `pipeline.toml`: the values, not the reading of the file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dicomnode.model.result import ResultRole

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ReasonCode = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,62}$")]
Channel = Annotated[int, Field(ge=0, le=255)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Code(BaseModel):
    """A coded concept, written `["<value>", "<scheme>", "<meaning>"]` (PS3.3 8.8)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: str
    scheme: str
    meaning: Annotated[str, Field(min_length=1, max_length=64)]

    @model_validator(mode="before")
    @classmethod
    def _from_triple(cls, data: object) -> object:
        if isinstance(data, (list, tuple)) and len(data) == 3:
            return dict(zip(("value", "scheme", "meaning"), data, strict=True))
        return data


class PipelineSection(_Section):
    """Name, version and limits."""

    name: Identifier
    version: Annotated[str, Field(min_length=1, max_length=64)]
    title: Annotated[str, Field(min_length=1, max_length=64)]
    input: Literal["volume", "projection"]
    outputs: Annotated[tuple[ResultRole, ...], Field(min_length=1)] = (ResultRole.SEG, ResultRole.SR)
    time_limit_s: Annotated[float, Field(gt=0)]
    memory_mb: Annotated[int, Field(gt=0)]
    gpu_memory_mb: Annotated[int, Field(ge=0)] = 0
    weights: str


class Algorithm(_Section):
    """Algorithm identification (PS3.16 TID 4019)."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    family: Code


class Condition(_Section):
    """A CEL expression that must hold, and the reason code and words for when it does not."""

    when: str
    code: ReasonCode
    reason: Annotated[str, Field(min_length=1, max_length=200)]


class Select(_Section):
    """Which stack of a series the pipeline takes: CEL over `stack` that holds for one of them."""

    when: str


class Prior(_Section):
    """An earlier series of the same patient that the pipeline takes beside its input, the latest that suits.

    `when` is CEL over `prior` and `series`. The bundle finds the latest under `name`, the one before it under
    `<name>_2`, and so on, up to `count`. Where a `required` one is missing, the job is refused.
    """

    name: Identifier
    when: str
    within_days: Annotated[int, Field(ge=1, le=36_525)] | None = None
    count: Annotated[int, Field(ge=1, le=8)] = 1
    required: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The names under which a bundle finds them, the latest first."""
        return tuple(f"{self.name}_{place}" if place > 1 else self.name for place in range(1, self.count + 1))


class Segment(_Section):
    """One segment: its value in the label map, and how it is called, coded and coloured.

    `same_finding = "patient"`: it is the same thing in every study of a patient, as its Tracking UID says.
    """

    label: Annotated[int, Field(ge=1, le=255)]
    name: Identifier
    title: Annotated[str, Field(min_length=1, max_length=64)]
    category: Code
    type: Code
    color: tuple[Channel, Channel, Channel]
    same_finding: Literal["job", "patient"] = "job"


class Mark(_Section):
    """A place that the pipeline finds any number of times: points in its order, on the grid of the input.

    A `point` has one point, a `polyline` two or more, a `polygon` three or more in one slice, not closed.
    """

    name: Identifier
    title: Annotated[str, Field(min_length=1, max_length=64)]
    shape: Literal["point", "polyline", "polygon"]
    category: Code
    type: Code
    color: tuple[Channel, Channel, Channel]


class Map(_Section):
    """Numbers on the grid of the input: float32, one a voxel, left under this name.

    `parametric` becomes a Parametric Map, `derived` a series of images, `fractional` the probability (0 to 1)
    of a segment in a FRACTIONAL Segmentation.
    """

    name: Identifier
    title: Annotated[str, Field(min_length=1, max_length=64)]
    use: Literal["parametric", "derived", "fractional"]
    quantity: Code | None = None
    unit: Code | None = None
    segment: Identifier | None = None

    @model_validator(mode="after")
    def _has_what_its_use_needs(self) -> Map:
        if self.use == "fractional" and self.segment is None:
            raise ValueError(f"the map {self.name} is fractional and names no segment")
        if self.use != "fractional" and (self.quantity is None or self.unit is None):
            raise ValueError(f"the map {self.name} has no quantity or no unit")
        return self


class Measurement(_Section):
    """A number in the report, of a segment, of each mark of a name, or of the whole input.

    The node computes `volume` (of the mask that is encoded), `mean` and `sd` (of the input inside it),
    `length` (of a polyline, mm) and `area` (of a polygon, mm2); the pipeline yields the `probability` of a
    mark and what `value` names.
    """

    segment: Identifier | None = None
    mark: Identifier | None = None
    value: Identifier | None = None
    quantity: Literal["volume", "mean", "sd", "length", "area", "probability", "value"]
    code: Code
    unit: Code

    @model_validator(mode="after")
    def _is_of_one_thing(self) -> Measurement:
        of = {
            "volume": "segment",
            "mean": "segment",
            "sd": "segment",
            "length": "mark",
            "area": "mark",
            "probability": "mark",
        }
        if self.quantity == "value":
            if self.value is None or self.mark is not None:
                raise ValueError("a measurement of a value names it, and at most a segment beside it")
        elif getattr(self, of[self.quantity]) is None or self.value is not None:
            raise ValueError(f"{self.quantity} is measured on a {of[self.quantity]}")
        elif self.segment is not None and self.mark is not None:
            raise ValueError("a measurement is of a segment or of a mark")
        return self


class Value(_Section):
    """A number beside the label map that the pipeline yields."""

    name: Identifier


class Choice(_Section):
    """One of the answers to a question."""

    name: Identifier
    code: Code


class Question(_Section):
    """A qualitative finding about the whole input: the pipeline answers with the name of one choice."""

    name: Identifier
    code: Code
    choice: Annotated[tuple[Choice, ...], Field(min_length=2)]


MOST_MAPS = 9
"""More would need SeriesNumbers that are another job's."""
_OF_A_RUN = frozenset({"image", "pred"})
"""Under which a bundle finds its input, and leaves its label map."""
_OF_THE_NODE = frozenset({ResultRole.NOTICE, ResultRole.WITHDRAWAL})
_IN_THE_PATIENT = frozenset({ResultRole.PARAMETRIC_MAP, ResultRole.DERIVED, ResultRole.RTSTRUCT})


class Manifest(_Section):
    """The whole of `pipeline.toml`."""

    pipeline: PipelineSection
    algorithm: Algorithm
    select: Select | None = None
    prior: tuple[Prior, ...] = ()
    require: tuple[Condition, ...] = ()
    segment: tuple[Segment, ...] = ()
    mark: tuple[Mark, ...] = ()
    map: Annotated[tuple[Map, ...], Field(max_length=MOST_MAPS)] = ()
    question: tuple[Question, ...] = ()
    measurement: tuple[Measurement, ...] = ()
    value: tuple[Value, ...] = ()
    plausible: tuple[Condition, ...] = ()

    @model_validator(mode="after")
    def _things_are_told_apart(self) -> Manifest:
        _require_distinct("segments", "label", [str(segment.label) for segment in self.segment])
        for what in ("prior", "segment", "mark", "map", "question", "value"):
            _require_distinct(f"{what}s", "name", [item.name for item in getattr(self, what)])
        beside = [item.name for what in ("mark", "map", "question", "value") for item in getattr(self, what)]
        keys = [key for prior in self.prior for key in prior.keys]
        if taken := sorted({key for key in keys if keys.count(key) > 1} | ({*keys} & {*beside, *_OF_A_RUN})):
            raise ValueError(f"{taken[0]} is the name of a prior and of something else that a bundle holds")
        return self

    @model_validator(mode="after")
    def _outputs_can_be_made(self) -> Manifest:
        for role in self.pipeline.outputs:
            if role in _OF_THE_NODE:
                raise ValueError(f"{role} is no output of a pipeline: the node makes it")
            if self.pipeline.input == "projection" and role in _IN_THE_PATIENT:
                raise ValueError(f"{role} needs a place in the patient, which a projection does not have")
        return self

    @model_validator(mode="after")
    def _names_are_declared(self) -> Manifest:
        for what in ("segment", "mark", "value"):
            declared = {item.name for item in getattr(self, what)}
            named = [getattr(item, what) for item in self.measurement]
            if what == "segment":
                named += [item.segment for item in self.map]
            for name in named:
                if name is not None and name not in declared:
                    raise ValueError(f"{name} is named, and is no {what}")
        return self


def _require_distinct(what: str, key: str, seen: list[str]) -> None:
    if len(set(seen)) != len(seen):
        raise ValueError(f"two {what} have the same {key}")
