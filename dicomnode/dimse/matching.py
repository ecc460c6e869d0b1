"""C-FIND identifiers: from a request to a query, and from a row to a response (PS3.4 C.2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomnode.errors import QueryNotUnderstood, QueryRefused
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.query import UNIQUE_KEYS, AnyOf, Level, Match, Query, Range, Single, Wildcard
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
_ABOVE = {
    Level.STUDY: (),
    Level.SERIES: (Level.STUDY,),
    Level.IMAGE: (Level.STUDY, Level.SERIES),
}


def parse_identifier(identifier: Dataset) -> Query:
    """What a C-FIND request in the Study Root model asks for (PS3.4 C.4.1.1.3).

    Hierarchical: the unique keys of the levels above the one that is asked for must each name one entity.
    Raises QueryRefused where level or unique keys do not suit the model, QueryNotUnderstood where a value
    cannot be read.
    """
    level = _level(identifier)
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
    for above in _ABOVE[level]:
        if not isinstance(matches.get(UNIQUE_KEYS[above]), Single):
            raise QueryRefused(UNIQUE_KEYS[above], f"must name one {above} at level {level}")
    return Query(level, MappingProxyType(matches), tuple(keywords))


def _level(identifier: Dataset) -> Level:
    value = _text(identifier, "QueryRetrieveLevel")
    try:
        return Level(value)
    except ValueError:
        raise QueryRefused("QueryRetrieveLevel", "is not STUDY, SERIES or IMAGE") from None


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
    unique = [UNIQUE_KEYS[level] for level in (*_ABOVE[query.level], query.level)]
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
