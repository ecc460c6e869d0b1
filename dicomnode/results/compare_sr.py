"""Two reports on the same series: what they measure, find and answer (PS3.16 TID 1500)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from dicomnode.imaging.elements import text_of
from dicomnode.model.comparison import AnswerCompared, FindingCompared, NumberCompared, compared_number

Pair = tuple[str, str]
"""The value and the scheme of a code."""
Key = tuple[str, ...]

_MEASUREMENTS, _GROUP = ("126010", "DCM"), ("125007", "DCM")
_EVALUATIONS = ("C0034375", "UMLS")
_TRACKING_ID, _TRACKING_UID = ("112039", "DCM"), ("112040", "DCM")
_FINDING, _DERIVATION = ("121071", "DCM"), ("121401", "DCM")
_SUMMARY, _ABSENT = ("111017", "DCM"), ("2667000", "SCT")
_OF_A_MARK = "1410"
"""The template of a group about one mark (TID 1410): which of them is which, nobody can tell."""


@dataclass(frozen=True, slots=True)
class _Thing:
    """What a report says of one tracked thing; `title` and `code` are those of its finding, where it has one,
    and `numbers` are by quantity, derivation and unit."""

    title: str
    code: Key
    tracked: str
    of_mark: bool
    absent: bool
    numbers: dict[Key, tuple[str, str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Differences:
    """All measurements, and the findings and answers that are not the same."""

    numbers: tuple[NumberCompared, ...]
    findings: tuple[FindingCompared, ...]
    answers: tuple[AnswerCompared, ...]


def compare_reports(active: Dataset, shadow: Dataset) -> Differences:
    """By what codes mean. Of marks of a kind, each side's only one is compared; else they are counted."""
    ours, theirs = list(_things(active)), list(_things(shadow))
    return Differences(_numbers(ours, theirs), _findings(ours, theirs), _answers(active, shadow))


def _numbers(ours: Iterable[_Thing], theirs: Iterable[_Thing]) -> tuple[NumberCompared, ...]:
    times = [Counter(thing.code for thing in things) for things in (ours, theirs)]
    alike = {code for counted in times for code, count in counted.items() if count > 1}
    sides = [_told_apart(things, alike) for things in (ours, theirs)]
    compared = []
    for name in {**sides[0], **sides[1]}:
        active, shadow = (side.get(name) for side in sides)
        title = next(thing.title for thing in (active, shadow) if thing is not None)
        first, second = (thing.numbers if thing else {} for thing in (active, shadow))
        for key in {**first, **second}:
            quantity, unit, _ = (first.get(key) or second[key])[:3]
            values = (side[key][2] if key in side else None for side in (first, second))
            compared.append(compared_number(title, quantity, unit, *values))
    return tuple(compared)


def _told_apart(things: Iterable[_Thing], alike: set[Key]) -> dict[Key, _Thing]:
    """By code; where a side has several of a code, segments by their names too, and marks not at all."""
    return {
        (*thing.code, thing.tracked) if thing.code in alike else thing.code: thing
        for thing in things
        if not (thing.of_mark and thing.code in alike)
    }


def _findings(ours: Iterable[_Thing], theirs: Iterable[_Thing]) -> tuple[FindingCompared, ...]:
    titles = {thing.code: thing.title for thing in (*theirs, *ours) if thing.code}
    active, shadow = (
        Counter(thing.code for thing in things if not thing.absent) for things in (ours, theirs)
    )
    return tuple(
        FindingCompared(finding=title, active=active[code], shadow=shadow[code])
        for code, title in titles.items()
        if active[code] != shadow[code]
    )


def _answers(active: Dataset, shadow: Dataset) -> tuple[AnswerCompared, ...]:
    ours, theirs = dict(_said(active)), dict(_said(shadow))
    return tuple(
        AnswerCompared(
            question=(ours.get(code) or theirs[code])[0],
            active=ours[code][2] if code in ours else None,
            shadow=theirs[code][2] if code in theirs else None,
        )
        for code in {**ours, **theirs}
        if ours.get(code, ("", ""))[1:2] != theirs.get(code, ("", ""))[1:2]
    )


def _said(report: Dataset) -> Iterator[tuple[Pair, tuple[str, Pair, str]]]:
    """Each answer by its question; what was not found is among the findings."""
    for container in _under(report, _EVALUATIONS):
        for item in container.get("ContentSequence") or ():
            if text_of(item, "ValueType") == "CODE" and _name(item) != _SUMMARY:
                question, answer = item.ConceptNameCodeSequence[0], item.ConceptCodeSequence[0]
                if _pair(answer) != _ABSENT:
                    yield _pair(question), (_meaning(question), _pair(answer), _meaning(answer))


def _things(report: Dataset) -> Iterator[_Thing]:
    """Everything tracked, once: in the form for viewers two groups may be about the same."""
    known: dict[str, _Thing] = {}
    for container in _under(report, _MEASUREMENTS):
        for group in _under(container, _GROUP):
            uid = next((text_of(item, "UID") for item in _under(group, _TRACKING_UID)), "")
            if uid not in known:
                known[uid] = _thing(group)
            known[uid].numbers.update(_measured(group))
    yield from known.values()


def _thing(group: Dataset) -> _Thing:
    tracked = next((text_of(item, "TextValue") for item in _under(group, _TRACKING_ID)), "")
    finding = next((item.ConceptCodeSequence[0] for item in _under(group, _FINDING)), None)
    templates = group.get("ContentTemplateSequence") or ()
    values = [item.ConceptCodeSequence[0] for item in group.ContentSequence if "ConceptCodeSequence" in item]
    return _Thing(
        title=tracked if finding is None else _meaning(finding),
        code=() if finding is None else _pair(finding),
        tracked=tracked,
        of_mark=finding is not None
        and [text_of(each, "TemplateIdentifier") for each in templates] == [_OF_A_MARK],
        absent=_ABSENT in map(_pair, values),
    )


def _measured(group: Dataset) -> Iterator[tuple[Key, tuple[str, str, float]]]:
    for item in group.ContentSequence:
        if text_of(item, "ValueType") != "NUM" or not item.get("MeasuredValueSequence"):
            continue
        measured, concept = item.MeasuredValueSequence[0], item.ConceptNameCodeSequence[0]
        derived = [each.ConceptCodeSequence[0] for each in _under(item, _DERIVATION)]
        unit = text_of(measured.MeasurementUnitsCodeSequence[0], "CodeValue")
        quantity = ", ".join(map(_meaning, [concept, *derived]))
        key = (*_pair(concept), *(part for each in derived for part in _pair(each)), unit)
        yield key, (quantity, unit, float(measured.NumericValue))


def _under(ds: Dataset, name: Pair) -> Iterator[Dataset]:
    for item in ds.get("ContentSequence") or ():
        if _name(item) == name:
            yield item


def _name(item: Dataset) -> Pair | None:
    names = item.get("ConceptNameCodeSequence")
    return _pair(names[0]) if names else None


def _pair(code: Dataset) -> Pair:
    value = text_of(code, "CodeValue") or text_of(code, "LongCodeValue")
    return value, text_of(code, "CodingSchemeDesignator")


def _meaning(code: Dataset) -> str:
    return text_of(code, "CodeMeaning")
