"""The findings as lines of a table, for people: the same numbers as in the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dicomnode.imaging.findings import Findings
from dicomnode.imaging.labels import voxel_counts
from dicomnode.model.manifest import Manifest, Measurement
from dicomnode.results import measured

Colour = tuple[int, int, int]
NOT_FOUND = "not found"
_PLAIN = str.maketrans("−–—’", "---'")
_STATISTICS = {"mean": "mean", "sd": "standard deviation"}
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: the colour of what it is about, where it has one."""

    colour: Colour | None
    thing: str
    words: str


def rows(findings: Findings, manifest: Manifest) -> Iterator[Row]:
    """Every segment and mark with its numbers, or that it was not found; then the whole input."""
    counts = voxel_counts(findings.labels)
    for segment in manifest.segment:
        wanted, voxels = measured.of_segment(manifest, segment), int(counts[segment.label])
        words = [_words(item, measured.segment_value(item, segment, findings, voxels)) for item in wanted]
        if not voxels:
            words = [NOT_FOUND]
        yield Row(segment.color, segment.title, "; ".join(words) or "found")
    for mark in manifest.mark:
        found = [each for each in findings.marks if each.name == mark.name]
        for number, each in enumerate(found, 1):
            wanted = measured.of_mark(manifest, mark.name)
            words = [_words(item, measured.mark_value(item, each, findings.geometry)) for item in wanted]
            yield Row(mark.color, f"{mark.title} {number}", "; ".join(words) or "found")
        if not found:
            yield Row(mark.color, mark.title, NOT_FOUND)
    yield from _of_input(findings, manifest)


def _of_input(findings: Findings, manifest: Manifest) -> Iterator[Row]:
    for wanted in measured.of_input(manifest):
        value = measured.whole_value(wanted, findings)
        yield Row(None, wanted.code.meaning, number_text(value, wanted.unit.value))
    for question in manifest.question:
        for choice in question.choice:
            if findings.answers.get(question.name) == choice.name:
                yield Row(None, question.code.meaning, choice.code.meaning)


def plain(text: str) -> str:
    """The text without the signs that fonts for Latin letters lack, where there are others for them."""
    return text.translate(_PLAIN)


def number_text(value: float, unit: str) -> str:
    """Four significant digits and the unit, which is not written where it is 1."""
    digits = f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    return digits if unit == "1" else f"{digits} {unit}"


def _words(wanted: Measurement, value: float | None) -> str:
    text = NOT_MEASURED if value is None else number_text(value, wanted.unit.value)
    kind, meaning = _STATISTICS.get(wanted.quantity, ""), wanted.code.meaning
    said = f"{kind} of {meaning}" if kind and kind not in meaning.lower() else meaning
    return f"{said} {text}"
