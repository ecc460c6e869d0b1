"""What a pipeline declares of itself in `pipeline.toml`: the values, not the reading of the file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    input: Literal["volume"]
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


class Segment(_Section):
    """One segment: its value in the label map, and how it is called, coded and coloured."""

    label: Annotated[int, Field(ge=1, le=255)]
    name: Identifier
    title: Annotated[str, Field(min_length=1, max_length=64)]
    category: Code
    type: Code
    color: tuple[Channel, Channel, Channel]


class Measurement(_Section):
    """A quantity of a segment; `volume` is computed from the mask that is encoded."""

    segment: Identifier
    quantity: Literal["volume"]
    code: Code
    unit: Code


class Value(_Section):
    """A number beside the label map that the pipeline yields, for its plausibility checks."""

    name: Identifier


class Manifest(_Section):
    """The whole of `pipeline.toml`."""

    pipeline: PipelineSection
    algorithm: Algorithm
    require: tuple[Condition, ...] = ()
    segment: Annotated[tuple[Segment, ...], Field(min_length=1)]
    measurement: tuple[Measurement, ...] = ()
    value: tuple[Value, ...] = ()
    plausible: tuple[Condition, ...] = ()

    @model_validator(mode="after")
    def _segments_are_told_apart(self) -> Manifest:
        for key in ("label", "name"):
            seen = [getattr(segment, key) for segment in self.segment]
            if len(set(seen)) != len(seen):
                raise ValueError(f"two segments have the same {key}")
        names = {segment.name for segment in self.segment}
        for measurement in self.measurement:
            if measurement.segment not in names:
                raise ValueError(f"measurement of {measurement.segment}, which is no segment")
        return self
