"""Single elements of data sets that others wrote: what is there and well formed, or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import PersonName

from dicomnode.imaging.headers import UNREADABLE

_tag = cache(Tag)


def value_of(ds: Dataset, keyword: str) -> Any:
    """The value of an attribute, or None where it is absent, empty or malformed (PS3.5 7.1)."""
    try:
        # Asked by its name, pydicom takes three times as long; an absent one is a KeyError.
        value = ds[_tag(keyword)].value
    except UNREADABLE:
        return None
    return None if value is None or (isinstance(value, (str, list)) and len(value) == 0) else value


def text_of(ds: Dataset, keyword: str) -> str:
    """The value as text, several values joined by backslash; "" where there is none."""
    value = value_of(ds, keyword)
    if value is None:
        return ""
    try:
        # A name is iterable, by its letters.
        single = isinstance(value, (str, bytes, PersonName)) or not isinstance(value, Iterable)
        parts = [value] if single else value
        return "\\".join(str(part) for part in parts).strip(" \0")
    except UNREADABLE:
        return ""


def numbers_of(ds: Dataset, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
    """All values as finite numbers, `count` of them where it is given; None otherwise."""
    value = value_of(ds, keyword)
    if value is None:
        return None
    try:
        parts = [value] if isinstance(value, (str, bytes)) or not isinstance(value, Iterable) else value
        numbers = tuple(float(part) for part in parts)
    except UNREADABLE:
        return None
    if count is not None and len(numbers) != count:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def number_of(ds: Dataset, keyword: str) -> float | None:
    """The first value as a finite number, or None."""
    numbers = numbers_of(ds, keyword)
    return numbers[0] if numbers else None


def alike(headers: Sequence[Dataset], *keywords: str) -> bool:
    """Whether all headers surely have the same values in these attributes, seen without converting them.

    Most of what a series says, each of its headers says again: this spares reading it each time.
    """
    return all(_alike([ds.get_item(tag) for ds in headers]) for tag in map(Tag, keywords))


def _alike(elements: Sequence[DataElement | RawDataElement | None]) -> bool:
    if any(element is None for element in elements):
        return all(element is None for element in elements)
    raw = [element for element in elements if isinstance(element, RawDataElement)]
    read = [element for element in elements if isinstance(element, DataElement)]
    if any(element.value != alike[0].value for alike in (raw, read) for element in alike):
        return False
    try:
        return not raw or not read or convert_raw_data_element(raw[0]).value == read[0].value
    except UNREADABLE:
        return False
