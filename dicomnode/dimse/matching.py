"""Identifiers: from a request to what it asks for, and from a row to a response (PS3.4 C.2.2, C.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomnode.dimse.information_model import LEVELS, Negotiated, Root
from dicomnode.errors import QueryNotUnderstood, QueryRefused
from dicomnode.imaging.headers import UNREADABLE
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

_NO_KEYS = frozenset(
    {
        "QueryRetrieveLevel",
        "SpecificCharacterSet",
        "TimezoneOffsetFromUTC",
        "RetrieveAETitle",
        "QueryRetrieveView",
    }
)
"""Attributes of the identifier itself (PS3.4 C.4.1.1.3.1), not of what is looked for."""

_BINARY_VRS = frozenset({"SL", "SS", "UL", "US"})
_RANGE_VRS = frozenset({"DA", "TM", "DT"})
_WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_INSTANTS = (("StudyDate", "StudyTime"), ("SeriesDate", "SeriesTime"))
_STUDY_ROOT = Negotiated(Root.STUDY)


def parse_identifier(identifier: Dataset, negotiated: Negotiated = _STUDY_ROOT) -> Query:
    """What a C-FIND request asks for (PS3.4 C.4.1.1.3).

    Unless relational queries were negotiated, the unique keys of the levels above the one that is asked for
    must each name one entity. Raises QueryRefused where level or unique keys do not suit the model,
    QueryNotUnderstood where a value cannot be read.
    """
    level, above = _levels(identifier, negotiated.root)
    keywords = [
        keyword
        for tag in sorted(identifier.keys())
        if (keyword := keyword_for_tag(tag)) and keyword not in _NO_KEYS
    ]
    matches: dict[str, Match] = {}
    for keyword in keywords:
        match = _match(keyword, identifier)
        if match is not None:
            matches[keyword] = match
    if not negotiated.relational:
        _require_one_of_each(above, matches)
    if negotiated.fuzzy:
        matches = {keyword: _fuzzy(keyword, match) for keyword, match in matches.items()}
    instants = tuple(
        pair for pair in _INSTANTS if negotiated.combined and are_one_range(*map(matches.get, pair))
    )
    keys = dict.fromkeys([*keywords, *(UNIQUE_KEYS[each] for each in above)])
    return Query(level, MappingProxyType(matches), tuple(keys), instants=instants)


def parse_retrieve_identifier(identifier: Dataset, negotiated: Negotiated) -> dict[str, tuple[str, ...]]:
    """Unique key → values: what a C-MOVE or C-GET names (PS3.4 C.4.2.1.4, C.4.3.1.3).

    At its level it may list several entities. Other keys constrain nothing. Raises QueryRefused where
    something that has to be named is not, or is by anything else than its value.
    """
    level, above = _levels(identifier, negotiated.root)
    matches = {
        key: match
        for key in (UNIQUE_KEYS[each] for each in (*above, level))
        if (match := _match(key, identifier)) is not None
    }
    if not isinstance(matches.get(UNIQUE_KEYS[level]), (Single, AnyOf)):
        raise QueryRefused(UNIQUE_KEYS[level], f"must name what to retrieve at level {level}")
    if not negotiated.relational:
        _require_one_of_each(above, matches)
    return {
        key: match.values if isinstance(match, AnyOf) else (match.value,)
        for key, match in matches.items()
        if isinstance(match, (Single, AnyOf))
    }


def _levels(identifier: Dataset, root: Root) -> tuple[Level, tuple[Level, ...]]:
    """The level that is asked for, and those above it."""
    levels = LEVELS[root]
    value = _text(identifier, "QueryRetrieveLevel")
    if value not in levels:
        raise QueryRefused("QueryRetrieveLevel", f"is not {', '.join(levels[:-1])} or {levels[-1]}")
    level = Level(value)
    return level, levels[: levels.index(level)]


def _require_one_of_each(levels: Iterable[Level], matches: Mapping[str, Match]) -> None:
    for level in levels:
        if not isinstance(matches.get(UNIQUE_KEYS[level]), Single):
            raise QueryRefused(UNIQUE_KEYS[level], f"must name one {level}")


def _fuzzy(keyword: str, match: Match) -> Match:
    """Names by the beginnings of their words, where that was agreed on (PS3.4 C.2.2.2.1.1)."""
    if dictionary_VR(keyword) != "PN" or not isinstance(match, (Single, Wildcard)):
        return match
    text = match.value if isinstance(match, Single) else match.pattern
    words = tuple(re.split(r"[\^=*?\s]+", text.strip("^=*? ")))
    return Fuzzy(words) if any(words) else match


def _text(identifier: Dataset, keyword: str) -> str:
    """The value as DICOM writes it, several values with a backslash between them."""
    try:
        value = identifier.get(keyword)
    except UNREADABLE as error:
        raise QueryNotUnderstood(keyword, "cannot be read") from error
    if value is None:
        return ""
    values = value if isinstance(value, (MultiValue, list)) else [value]
    return "\\".join(str(one) for one in values).strip(" \0")


def _match(keyword: str, identifier: Dataset) -> Match | None:
    """How one key constrains; None is universal matching (PS3.4 C.2.2.2.3)."""
    VR = dictionary_VR(keyword)
    if VR == "SQ":
        # Sequence matching (C.2.2.2.6) is of no use with the keys that are kept: it is answered empty.
        return None
    text = _text(identifier, keyword)
    if not text.strip("*"):
        return None
    if VR == "UI":
        return _uid_match(keyword, text)
    if VR in _RANGE_VRS and "-" in text:
        return _range(keyword, text)
    if "\\" in text:
        return AnyOf(tuple(value.strip() for value in text.split("\\")))
    if VR in _WILDCARD_VRS and ("*" in text or "?" in text):
        return Wildcard(text)
    return Single(text)


def _uid_match(keyword: str, text: str) -> Match:
    values = tuple(dict.fromkeys(value.strip(" \0") for value in text.split("\\")))
    if not all(map(is_valid_uid, values)):
        raise QueryRefused(keyword, "is not a UID or a list of UIDs")
    return Single(values[0]) if len(values) == 1 else AnyOf(values)


def _range(keyword: str, text: str) -> Match:
    first, _, last = (part.strip() for part in text.partition("-"))
    if "-" in last or not (first or last):
        raise QueryNotUnderstood(keyword, "is not a range")
    return Range(first or None, last or None)


def response_identifier(query: Query, row: Mapping[str, object], retrieve_ae_title: str) -> Dataset:
    """The identifier of one pending response (PS3.4 C.4.1.1.3.2).

    `row` holds values by keyword. A key that was asked for and is not in it is answered empty; the unique
    keys of the level and of those above it are always answered. Text beyond ASCII is encoded as UTF-8.
    """
    levels = LEVELS[Root.PATIENT]
    above = levels[1 : levels.index(query.level)]
    unique = [UNIQUE_KEYS[level] for level in (*above, query.level)]
    values = {keyword: row.get(keyword) for keyword in dict.fromkeys([*query.return_keys, *unique])}
    ds = Dataset()
    if not all(str(value).isascii() for value in values.values()):
        ds.SpecificCharacterSet = "ISO_IR 192"
    ds.QueryRetrieveLevel = query.level.value
    ds.RetrieveAETitle = retrieve_ae_title
    for keyword, value in values.items():
        ds.add(_element(keyword, value))
    return ds


def _element(keyword: str, value: object) -> DataElement:
    """One element; empty where the stored text is none of its VR: it came from outside and was kept."""
    tag, VR = tag_for_keyword(keyword), dictionary_VR(keyword)
    if tag is None:
        raise KeyError(keyword)
    empty: object = [] if VR == "SQ" else ""
    held = empty if value is None or value == "" or VR == "SQ" else value
    try:
        if VR in _BINARY_VRS and held != "":
            held = int(str(held))
        return DataElement(tag, VR, held, validation_mode=config.IGNORE)
    except (ValueError, TypeError, OverflowError):
        return DataElement(tag, VR, empty)
