"""The Native DICOM Model in XML read into the JSON model (PS3.19 A.1, PS3.18 F.4)."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from dicomnode.dicomweb.dicom_json import JSONDataset
from dicomnode.errors import BadRequest

_NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
_MAXIMUM_DEPTH = 200
_TAG = re.compile("[0-9A-F]{8}")
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_NUMBERS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})


class _Builder(TreeBuilder):
    """Knows no document types, and so no entities that grow, and no depth without end."""

    _depth = 0

    def start(self, tag: Any, attrs: Any) -> Any:
        self._depth += 1
        if self._depth > _MAXIMUM_DEPTH:
            raise BadRequest("the XML is nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: Any) -> Any:
        self._depth -= 1
        return super().end(tag)

    def doctype(self, *_: Any) -> None:
        raise BadRequest("the XML has a document type")


def from_xml(text: bytes) -> JSONDataset:
    """The data set of one document. Raises BadRequest."""
    parser = XMLParser(target=_Builder())  # noqa: S314  the builder refuses what is dangerous
    try:
        parser.feed(text)
        root = parser.close()
    except (ParseError, LookupError, ValueError) as error:
        raise BadRequest(f"the metadata are no XML: {type(error).__name__}") from None
    if root.tag.removeprefix(_NAMESPACE) != "NativeDicomModel":
        raise BadRequest("the XML is no NativeDicomModel")
    return _dataset(root)


def _dataset(parent: Element) -> JSONDataset:
    model: JSONDataset = {}
    private: list[tuple[str, str, dict[str, Any]]] = []
    for element in parent:
        tag, vr = element.get("tag", "").upper(), element.get("vr", "")
        if (
            element.tag.removeprefix(_NAMESPACE) != "DicomAttribute"
            or not _TAG.fullmatch(tag)
            or len(vr) != 2
        ):
            raise BadRequest("the XML has something else than a DicomAttribute with tag and VR")
        content = {"vr": vr, **_content(element, vr)}
        if creator := element.get("privateCreator"):
            private.append((tag, creator, content))
        else:
            model[tag] = content
    for tag, creator, content in private:
        model[f"{tag[:4]}{_block(model, tag[:4], creator)}{tag[6:]}"] = content
    return dict(sorted(model.items()))


def _block(model: JSONDataset, group: str, creator: str) -> str:
    """The creator's block in the group; a free one is reserved where it has none (PS3.5 7.8.1)."""
    for number in range(0x10, 0x100):
        reserved = model.setdefault(f"{group}00{number:02X}", {"vr": "LO", "Value": [creator]})
        if reserved.get("Value") == [creator]:
            return f"{number:02X}"
    raise BadRequest("the XML has more private creators than a group takes")


def _content(element: Element, vr: str) -> dict[str, Any]:
    values: dict[int, Any] = {}
    for number, child in enumerate(element, 1):
        kind = child.tag.removeprefix(_NAMESPACE)
        if kind == "BulkData":
            return {"BulkDataURI": child.get("uri") or child.get("uuid") or ""}
        if kind == "InlineBinary":
            return {"InlineBinary": "".join((child.text or "").split())}
        place = child.get("number", "")
        values[int(place) if place.isdecimal() else number] = _value(child, kind, vr)
    return {"Value": [values[place] for place in sorted(values)]} if values else {}


def _value(child: Element, kind: str, vr: str) -> Any:
    if kind == "Item":
        return _dataset(child)
    if kind == "PersonName":
        return {group.tag.removeprefix(_NAMESPACE): _name(group) for group in child}
    text = child.text or ""
    if vr in _NUMBERS and text:
        try:
            return int(text)
        except ValueError:
            return _real(text)
    return text


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRequest("the XML has a number that is none") from None


def _name(group: Element) -> str:
    found = {part.tag.removeprefix(_NAMESPACE): part.text or "" for part in group}
    return "^".join(found.get(part, "") for part in _NAME_PARTS).rstrip("^")
