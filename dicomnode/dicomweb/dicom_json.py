"""Data sets in the DICOM JSON model (PS3.18 F)."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

from dicomnode.imaging.headers import UNREADABLE

JSONDataset: TypeAlias = dict[str, dict[str, Any]]
Path: TypeAlias = tuple[int, ...]
"""The way to an element: tags, with the number of the item (from 0) between a sequence and what is in it."""

BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
"""What may stand elsewhere, behind a URI. Numbers and long texts might, too (PS3.18 F.2.6), but viewers look
for those, as for the coordinates in a report, in the metadata itself."""
_INTEGER_VRS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_FLOAT_VRS = frozenset({"DS", "FD", "FL"})
_PIXEL_DATA = 0x7FE00010
PIXELS = frozenset({(0x7FE00008,), (0x7FE00009,), (_PIXEL_DATA,)})
"""Where pixel data stand."""
_UNICODE = "ISO_IR 192"
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
INLINE_LIMIT = 1024
"""Values of more bytes stand behind a URI."""


def to_json(ds: Dataset, bulk_uri: Callable[[Path], str] | None = None, path: Path = ()) -> JSONDataset:
    """The data set; its pixels and large values by `bulk_uri`, or all of them inline where it is None.

    Elements whose value cannot be read are there without one. Text is Unicode, whatever it was stored in.
    """
    model: JSONDataset = {}
    for tag in sorted(ds.keys()):
        if tag.element == 0:
            continue
        model[f"{tag:08X}"] = _attribute(ds, tag, bulk_uri, (*path, int(tag)))
    if "00080005" in model:
        model["00080005"] = {"vr": "CS", "Value": [_UNICODE]}
    return model


def bulk_paths(ds: Dataset) -> list[Path]:
    """The ways to all values that stand behind a URI in the model."""
    found: list[Path] = []

    def note(way: Path) -> str:
        found.append(way)
        return ""

    to_json(ds, note)
    return found


def attribute(tag: int, vr: str, values: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """One attribute from text or numbers as a database holds them; without values where there are none."""
    written = [_value(vr, value) for value in values]
    held = [value for value in written if value is not None]
    return {f"{tag:08X}": {"vr": vr, "Value": written} if held else {"vr": vr}}


def _attribute(
    ds: Dataset, tag: BaseTag, bulk_uri: Callable[[Path], str] | None, path: Path
) -> dict[str, Any]:
    raw = ds.get_item(tag, keep_deferred=True)
    vr = _vr(raw)
    if bulk_uri is not None and (path in PIXELS or (vr in BINARY_VRS and _is_deferred(raw))):
        return {"vr": vr, "BulkDataURI": bulk_uri(path)}
    try:
        element = ds[tag]
        if element.VR == "SQ":
            items = [to_json(item, bulk_uri, (*path, number)) for number, item in enumerate(element.value)]
            return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        vr = element.VR[:2]
        if bulk_uri is not None and vr in BINARY_VRS and len(element.value or b"") > INLINE_LIMIT:
            return {"vr": vr, "BulkDataURI": bulk_uri(path)}
        return {"vr": vr, **_content(vr, element.value)}
    except UNREADABLE:
        return {"vr": vr}


def _is_deferred(raw: Any) -> bool:
    """True where the value was left in the file."""
    return isinstance(raw, RawDataElement) and raw.value is None and bool(raw.length)


def _vr(raw: Any) -> str:
    """That of an element whose value is not looked at; of "OB or OW" and the like the first."""
    if raw.VR not in (None, "UN"):
        return str(raw.VR)[:2]
    try:
        return "OW" if raw.tag == _PIXEL_DATA else dictionary_VR(raw.tag)[:2]
    except KeyError:
        return "UN"


def _content(vr: str, value: Any) -> dict[str, Any]:
    if value is None or (isinstance(value, (str, bytes, list, MultiValue)) and len(value) == 0):
        return {}
    if vr in BINARY_VRS:
        return {"InlineBinary": base64.b64encode(value).decode()}
    values = list(value) if isinstance(value, (MultiValue, list, tuple)) else [value]
    written = [_value(vr, each) for each in values]
    return {"Value": written} if any(each is not None for each in written) else {}


def _value(vr: str, value: Any) -> Any:
    """One value (PS3.18 F.2.3); None stands for an empty one among others."""
    if value is None or value == "":
        return None
    if vr == "PN":
        return _name(value)
    if vr == "AT":
        return f"{int(value):08X}"
    if vr in _INTEGER_VRS:
        return _number(value, int)
    if vr in _FLOAT_VRS:
        return _number(value, float)
    return str(value)


def _number(value: Any, kind: Callable[[Any], float]) -> Any:
    """A number; text where JSON has none for it, as for NaN, or where it is none at all."""
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        return str(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _name(value: PersonName | str) -> dict[str, str] | None:
    groups = zip(_GROUPS, str(value).split("="), strict=False)
    return {group: text for group, text in groups if text} or None
