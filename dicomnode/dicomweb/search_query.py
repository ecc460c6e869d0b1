"""QIDO-RS searches: from the query part of a URL to a query over the catalog (PS3.18 8.3.4, 10.6.1.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from dicomnode.errors import BadRequest
from dicomnode.model.query import (
    UNIQUE_KEYS,
    AnyOf,
    Fuzzy,
    Level,
    Match,
    Query,
    Range,
    Single,
    Wildcard,
    are_one_range,
)
from dicomnode.model.uid import is_valid_uid

STUDY_KEYS = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "ReferringPhysicianName"),
    *("TimezoneOffsetFromUTC", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyID", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
)
SERIES_KEYS = (
    *("Modality", "TimezoneOffsetFromUTC", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber"),
    *("NumberOfSeriesRelatedInstances", "PerformedProcedureStepStartDate"),
    *("PerformedProcedureStepStartTime", "ScheduledProcedureStepID", "RequestedProcedureID"),
)
INSTANCE_KEYS = (
    *("SOPClassUID", "TimezoneOffsetFromUTC", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns"),
    *("BitsAllocated", "NumberOfFrames"),
)
OWN_KEYS = {Level.STUDY: STUDY_KEYS, Level.SERIES: SERIES_KEYS, Level.IMAGE: INSTANCE_KEYS}
"""What each level answers unasked (PS3.18 10.6.3.3, tables 10.6.3-3 to 10.6.3-5)."""
REQUEST_KEYS = ("ScheduledProcedureStepID", "RequestedProcedureID")
"""Attributes that stand in the items of Request Attributes Sequence (0040,0275)."""

_LEVELS = (Level.STUDY, Level.SERIES, Level.IMAGE)
_INSTANTS = (
    ("StudyDate", "StudyTime"),
    ("SeriesDate", "SeriesTime"),
    ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
)
_RANGE_VRS = frozenset({"DA", "TM", "DT"})
_NO_WILDCARD_VRS = frozenset({"DA", "TM", "DT", "UI", "SL", "SS", "UL", "US", "FL", "FD", "SQ"})
_DATE, _TIME = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_FORMS = {"DA": _DATE, "TM": _TIME}
_NOT_DONE = {
    "emptyvaluematching": "Empty Value Matching",
    "multiplevaluematching": "Multiple Value Matching",
}
"""What a server may leave undone, if it says so (PS3.18 8.3.4.5, 8.3.4.6)."""
_CONTROL = frozenset({"accept", "charset", "includefield", "fuzzymatching", "limit", "offset", *_NOT_DONE})


@dataclass(frozen=True, slots=True)
class Search:
    """`query` for the catalog; `more_keys`: what was asked for and only stored headers know."""

    query: Query
    more_keys: tuple[str, ...]
    warnings: tuple[str, ...]


def parse_search(
    level: Level,
    above: Mapping[str, str],
    parameters: Iterable[tuple[str, str]],
    held: frozenset[str],
    maximum: int,
) -> Search:
    """What a search asks for.

    `above` are the UIDs in the path; `held` the keywords that the catalog has; `maximum`: the most matches of
    one answer. Raises BadRequest where a key is no attribute, or a value none of its kind.
    """
    pairs = list(parameters)
    control = _control(pairs)
    fuzzy = _switch(control, "fuzzymatching")
    matches: dict[str, Match] = {keyword: _uids(keyword, uid) for keyword, uid in above.items()}
    warnings = [
        f"The {name} parameter is not supported. {kind} has not been performed"
        for name, kind in _NOT_DONE.items()
        if _switch(control, name)
    ]
    for name, text in pairs:
        if name.lower() in _CONTROL:
            continue
        keyword = _keyword(name)
        match = _match(keyword, text, fuzzy=fuzzy)
        if keyword not in held:
            warnings.append(f"{keyword} is not searched for")
        elif match is not None:
            if keyword in matches and matches[keyword] != match:
                raise BadRequest(f"{keyword} is given twice")
            matches[keyword] = match
    included, everything = _included(pairs)
    keys = [*_answered(level, above), *included, *(sorted(held) if everything else ())]
    limit = min(_count(control, "limit", maximum), maximum)
    query = Query(
        level,
        MappingProxyType(matches),
        tuple(dict.fromkeys(key for key in keys if key in held)),
        _count(control, "offset", 0),
        limit,
        tuple(pair for pair in _INSTANTS if are_one_range(*map(matches.get, pair))),
    )
    more = tuple(dict.fromkeys(key for key in included if key not in held))
    return Search(query, more, tuple(warnings))


def _answered(level: Level, above: Mapping[str, str]) -> list[str]:
    """The level's own keys, and those of the levels above that the path does not name (PS3.18 10.6.3.3)."""
    keys: list[str] = []
    for each in _LEVELS[: _LEVELS.index(level) + 1]:
        keys += OWN_KEYS[each] if each is level or UNIQUE_KEYS[each] not in above else [UNIQUE_KEYS[each]]
    return keys


def _control(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    control: dict[str, str] = {}
    for name, text in pairs:
        if name.lower() in _CONTROL - {"includefield"} and control.setdefault(name.lower(), text) != text:
            raise BadRequest(f"{name.lower()} is given twice")
    return control


def _switch(control: Mapping[str, str], name: str) -> bool:
    text = control.get(name, "false").lower()
    if text not in ("true", "false"):
        raise BadRequest(f"{name} is true or false")
    return text == "true"


def _count(control: Mapping[str, str], name: str, default: int) -> int:
    text = control.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise BadRequest(f"{name} is a number from 0 on")
    return int(text)


def _included(pairs: Iterable[tuple[str, str]]) -> tuple[list[str], bool]:
    names = [
        name.strip()
        for parameter, text in pairs
        if parameter.lower() == "includefield"
        for name in text.split(",")
        if name.strip()
    ]
    return [_keyword(name) for name in names if name.lower() != "all"], any(n.lower() == "all" for n in names)


def _keyword(name: str) -> str:
    """An attribute by keyword or tag; one in a sequence by the path to it, its parts with points between."""
    last = name.rpartition(".")[2]
    keyword = keyword_for_tag(int(last, 16)) if re.fullmatch(r"[0-9A-Fa-f]{8}", last) else last
    if not keyword or tag_for_keyword(keyword) is None:
        raise BadRequest(f"{_shown(name)} is no attribute that is known here")
    return keyword


def _shown(name: str) -> str:
    return "".join(letter for letter in name[:64] if letter.isalnum() or letter in "._-") or "a key"


def _match(keyword: str, text: str, *, fuzzy: bool) -> Match | None:
    """How one key constrains; None is universal matching (PS3.4 C.2.2.2.3)."""
    VR = dictionary_VR(keyword)
    text = text.strip(" \0")
    if VR == "SQ" or not text.strip("*"):
        return None
    if VR == "UI":
        return _uids(keyword, text)
    if VR == "PN" and fuzzy:
        return _fuzzy(text)
    if VR in _RANGE_VRS:
        return _moment(keyword, VR, text)
    if VR not in _NO_WILDCARD_VRS and ("*" in text or "?" in text):
        return Wildcard(text)
    # No code string has a comma, and viewers write the modalities that are chosen as CT,MR, too.
    values = tuple(value.strip() for value in re.split(r"[,\\]" if VR == "CS" else r"\\", text))
    return Single(text) if len(values) == 1 else AnyOf(values)


def _uids(keyword: str, text: str) -> Match:
    values = tuple(dict.fromkeys(value.strip(" \0") for value in re.split(r"[,\\]", text)))
    if not all(map(is_valid_uid, values)):
        raise BadRequest(f"{keyword} is a UID or a list of UIDs")
    return Single(values[0]) if len(values) == 1 else AnyOf(values)


def _fuzzy(text: str) -> Match | None:
    words = tuple(word for word in re.split(r"[\^=\s*?,]+", text) if word)
    return Fuzzy(words) if words else None


def _moment(keyword: str, VR: str, text: str) -> Match:
    first, dash, last = (part.strip() for part in text.partition("-"))
    form = _FORMS.get(VR)
    if form is not None and not all(form.fullmatch(part) for part in (first, last) if part):
        raise BadRequest(f"{keyword} is no {'date' if VR == 'DA' else 'time'} and no range of them")
    if not dash:
        return Single(first)
    if not (first or last):
        raise BadRequest(f"{keyword} is no range")
    return Range(first or None, last or None)
