"""Several volumes in one series: echoes, b-values, phases. Told apart, named, and one of them chosen.

Only where slices share their places is a series split, by the attributes that tell those slices apart: one
that merely changes from place to place (an AcquisitionNumber that counts slices) splits nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.imaging.diffusion import b_value
from dicomnode.imaging.elements import number_of, text_of

Value: TypeAlias = str | float | None
StackFacts: TypeAlias = Mapping[str, str | float | int]
Choose: TypeAlias = Callable[[StackFacts], bool]
"""Says of a stack, by its facts, whether it is meant."""

_MOST_SHOWN = 6
_NOT_SHOWN = re.compile(r"[^A-Za-z0-9 ._+-]")


@dataclass(frozen=True, slots=True)
class _Attribute:
    """What may tell stacks apart; `words` are for one and for several, `specimen` is of its values' type."""

    fact: str
    words: tuple[str, str]
    read: Callable[[Dataset], Value]
    unit: str = ""
    specimen: str | float = 1.0


def _number(*keywords: str) -> Callable[[Dataset], Value]:
    """Reads the first of these attributes that there is; rounded, for scanners jitter in the last digits."""

    def read(ds: Dataset) -> Value:
        found = (number_of(ds, keyword) for keyword in keywords)
        number = next((number for number in found if number is not None), None)
        return None if number is None else round(number, 3)

    return read


def _text(keyword: str) -> Callable[[Dataset], Value]:
    return lambda ds: text_of(ds, keyword) or None


_PHASE = _Attribute(
    "temporal_position",
    ("phase", "phases"),
    _number("TemporalPositionIndex", "TemporalPositionIdentifier"),
)
_ATTRIBUTES = (
    _Attribute("stack_id", ("stack", "stacks"), _text("StackID"), specimen=""),
    _Attribute("echo_time", ("echo", "echoes"), _number("EchoTime"), "ms"),
    _Attribute("b_value", ("b-value", "b-values"), b_value, "s/mm2"),
    _Attribute("inversion_time", ("inversion time", "inversion times"), _number("InversionTime"), "ms"),
    _Attribute("flip_angle", ("flip angle", "flip angles"), _number("FlipAngle"), "degrees"),
    _Attribute("repetition_time", ("repetition time", "repetition times"), _number("RepetitionTime"), "ms"),
    _Attribute("image_type", ("image type", "image types"), _text("ImageType"), specimen=""),
    _Attribute("kernel", ("kernel", "kernels"), _text("ConvolutionKernel"), specimen=""),
    _Attribute("kvp", ("tube voltage", "tube voltages"), _number("KVP"), "kV"),
    _PHASE,
    _Attribute("trigger_time", ("phase", "phases"), _number("TriggerTime"), "ms"),
    _Attribute("gradient", ("gradient", "gradients"), _text("DiffusionGradientOrientation"), specimen=""),
    _Attribute("acquisition_number", ("acquisition", "acquisitions"), _number("AcquisitionNumber")),
)
"""In the order in which they are tried."""
_IMAGE_ATTRIBUTES = (
    _Attribute("view", ("view", "views"), _text("ViewPosition"), specimen=""),
    _Attribute("laterality", ("side", "sides"), _text("ImageLaterality"), specimen=""),
    _Attribute("image_type", ("image type", "image types"), _text("ImageType"), specimen=""),
)
_CLOCKS: tuple[Callable[[Dataset], Value], ...] = (
    _number("TriggerTime"),
    _text("FrameAcquisitionDateTime"),
    _text("AcquisitionTime"),
    _text("ContentTime"),
)
"""Where each slice has times of its own, their order at each place tells the phases."""
STACK_FACTS: Mapping[str, object] = {
    **{attribute.fact: attribute.specimen for attribute in (*_ATTRIBUTES, *_IMAGE_ATTRIBUTES)},
    **dict.fromkeys(("index", "count", "slices"), 1),
}
"""The names that the facts of a stack can have, each with a value of its type."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Planes of which no two share a place, by their numbers from 0; `facts` as rules see them.

    `index` counts the stacks from 1, in the order of what tells them apart; `count` says how many there are.
    """

    planes: tuple[int, ...]
    facts: StackFacts


@dataclass(frozen=True, slots=True)
class Stacks:
    """All stacks of a series, and words for what tells them apart."""

    stacks: tuple[Stack, ...]
    words: str

    def choose(self, choose: Choose | None) -> Stack:
        """The only stack, or the only one that `choose` takes.

        Raises Refused SEVERAL_STACKS or NO_STACK, with the words.
        """
        if choose is None and len(self.stacks) == 1:
            return self.stacks[0]
        if choose is None:
            raise Refused("SEVERAL_STACKS", f"{self.words}; the pipeline does not say which one it takes")
        taken = [stack for stack in self.stacks if choose(stack.facts)]
        if not taken:
            raise Refused("NO_STACK", f"{self.words}; the pipeline takes none of them")
        if len(taken) > 1:
            raise Refused("SEVERAL_STACKS", f"{self.words}; the pipeline takes {len(taken)} of them")
        return taken[0]


_Groups = dict[tuple[Value, ...], list[int]]
"""The numbers of the planes by the values of the attributes that were used so far."""


def stacks_of(planes: Sequence[Dataset], places: NDArray[np.int64]) -> Stacks:
    """Split planes that share places into stacks; one stack where none do.

    `places` numbers the place of each plane. Raises Refused DUPLICATE_POSITIONS where nothing tells planes in
    one place apart.
    """
    groups: _Groups = {(): list(range(len(planes)))}
    used: list[_Attribute] = []
    tries = [(attribute, attribute.read) for attribute in _ATTRIBUTES]
    for attribute, read in (*tries, *((_PHASE, clock) for clock in _CLOCKS)):
        if not any(_crowded(group, places) for group in groups.values()):
            break
        values = [read(ds) for ds in planes]
        if read in _CLOCKS:
            values = _in_order(groups, places, values)
        if (finer := _split(groups, places, values)) is not None:
            groups = finer
            used.append(attribute)
    _refuse_crowds(groups, places)
    return _named(planes, groups, used, _ATTRIBUTES, "volumes")


def images_of(images: Sequence[Dataset]) -> Stacks:
    """Each projection image as a stack of its own (PS3.3 C.8.11.5)."""
    values = [tuple(attribute.read(ds) for attribute in _IMAGE_ATTRIBUTES) for ds in images]
    groups: _Groups = {(*value, float(number)): [number] for number, value in enumerate(values)}
    return _named(images, groups, list(_IMAGE_ATTRIBUTES), _IMAGE_ATTRIBUTES, "images")


def stack_facts(planes: Sequence[Dataset]) -> StackFacts:
    """What tells stacks apart, of the planes of one: the header of the first of them speaks.

    `index` and `count` are those of the whole series, and not here.
    """
    read = {attribute.fact: attribute.read(planes[0]) for attribute in (*_ATTRIBUTES, *_IMAGE_ATTRIBUTES)}
    return {fact: value for fact, value in read.items() if value is not None} | {"slices": len(planes)}


def _crowded(group: Sequence[int], places: NDArray[np.int64]) -> bool:
    return np.unique(places[list(group)]).size < len(group)


def _split(groups: _Groups, places: NDArray[np.int64], values: Sequence[Value]) -> _Groups | None:
    """Each crowded group by its members' values; None where that tells no two planes in one place apart."""
    finer: _Groups = {}
    for key, members in groups.items():
        parts: dict[Value, list[int]] = {}
        for member in members:
            parts.setdefault(values[member], []).append(member)
        if (
            len(parts) > 1
            and _crowded(members, places)
            and _each_covers_most(parts.values(), members, places)
        ):
            finer |= {(*key, value): part for value, part in parts.items()}
        else:
            finer[(*key, None)] = members
    return finer if len(finer) > len(groups) else None


def _each_covers_most(
    parts: Iterable[Sequence[int]], members: Sequence[int], places: NDArray[np.int64]
) -> bool:
    """Whether each part has planes in more than half of the places, so that any two parts share some."""
    whole = np.unique(places[list(members)]).size
    return all(2 * np.unique(places[list(part)]).size > whole for part in parts)


def _in_order(groups: _Groups, places: NDArray[np.int64], times: Sequence[Value]) -> list[Value]:
    """The rank of each plane by its time among those of its group in its place, from 1.

    None for all planes of a group where times are missing or equal, or where places have more planes than
    others.
    """
    ranks: list[Value] = [None] * len(times)
    for members in groups.values():
        at: dict[int, list[int]] = {}
        for member in members:
            at.setdefault(int(places[member]), []).append(member)
        known = [{times[member] for member in here} - {None} for here in at.values()]
        if len({len(here) for here in at.values()}) > 1 or any(
            len(times_here) < len(here) for times_here, here in zip(known, at.values(), strict=True)
        ):
            continue
        for here in at.values():
            for rank, member in enumerate(sorted(here, key=lambda member: _order(times[member])), 1):
                ranks[member] = float(rank)
    return ranks


def _refuse_crowds(groups: _Groups, places: NDArray[np.int64]) -> None:
    total = sum(map(len, groups.values()))
    second = sum(len(group) - np.unique(places[group]).size for group in groups.values())
    if second:
        raise Refused("DUPLICATE_POSITIONS", f"{second} of {total} slices lie where another one lies")


def _named(
    planes: Sequence[Dataset],
    groups: _Groups,
    used: Sequence[_Attribute],
    attributes: Sequence[_Attribute],
    unit: str,
) -> Stacks:
    keys = sorted(groups, key=lambda key: [_order(value) for value in key])
    stacks = []
    for index, key in enumerate(keys, 1):
        first = planes[groups[key][0]]
        read = {attribute.fact: attribute.read(first) for attribute in attributes}
        told = {
            attribute.fact: value for attribute, value in zip(used, key, strict=False) if value is not None
        }
        known = {fact: value for fact, value in (read | told).items() if value is not None}
        facts = {**known, "index": index, "count": len(keys), "slices": len(groups[key])}
        stacks.append(Stack(tuple(groups[key]), facts))
    return Stacks(tuple(stacks), _words(keys, used, unit))


def _order(value: Value) -> tuple[int, float, str]:
    """Absent values first, then numbers, then texts."""
    if value is None:
        return 0, 0.0, ""
    return (2, 0.0, value) if isinstance(value, str) else (1, value, "")


def _words(keys: Sequence[tuple[Value, ...]], used: Sequence[_Attribute], unit: str) -> str:
    parts = []
    for number, attribute in enumerate(used):
        values = sorted({key[number] for key in keys}, key=_order)
        if len(values) > 1:
            parts.append((f"{len(values)} {attribute.words[1]}", _listed(values, attribute.unit)))
    if len(parts) == 1 and len(keys) == int(parts[0][0].split()[0]):
        return ": ".join(part for part in parts[0] if part)
    whole = f"{len(keys)} {unit}" if len(keys) > 1 else f"one {unit[:-1]}"
    told = ", ".join(f"{words} ({values})" if values else words for words, values in parts)
    return f"{whole}: {told}" if told else whole


def _listed(values: Sequence[Value], unit: str) -> str:
    """The values as a person lists them; of many numbers the first and the last, of many texts nothing."""
    numbers = all(isinstance(value, float) for value in values)
    shown = [_shown(value, values) for value in values]
    if len(values) > _MOST_SHOWN:
        text = f"{shown[0]} to {shown[-1]}" if numbers else ""
    else:
        text = f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"{text} {unit}".strip() if text else ""


def _shown(value: Value, among: Sequence[Value]) -> str:
    """A value in the words of a reason: of several components those that not all values have."""
    if value is None:
        return "none"
    if not isinstance(value, str):
        return f"{value:g}"
    others = [set(str(other).split("\\")) for other in among]
    own = [part for part in value.split("\\") if not all(part in other for other in others)]
    return _NOT_SHOWN.sub("", " ".join(own))[:40]
