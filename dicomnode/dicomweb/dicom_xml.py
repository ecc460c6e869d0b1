"""The Native DICOM Model in XML, made from the JSON model (PS3.19 A.1, PS3.18 F.4)."""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

from dicomnode.dicomweb.dicom_json import JSONDataset

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document can hold; DICOM text may."""


def to_xml(model: JSONDataset) -> bytes:
    """A whole document for one data set."""
    root = f'<NativeDicomModel xml:space="preserve" xmlns="{_NAMESPACE}">'
    return "".join([_HEAD, root, *_attributes(model), "</NativeDicomModel>"]).encode()


def _attributes(model: JSONDataset) -> list[str]:
    return [_attribute(model, tag, content) for tag, content in model.items()]


def _attribute(model: JSONDataset, tag: str, content: dict[str, Any]) -> str:
    names = f'tag="{tag}" vr="{content["vr"]}"'
    if keyword := keyword_for_tag(int(tag, 16)):
        names += f' keyword="{keyword}"'
    if creator := _creator(model, tag):
        # A private attribute is named by its creator and its place in the block (PS3.19 A.1.5.2).
        names = f"{names.replace(tag, f'{tag[:4]}00{tag[6:]}')} privateCreator={quoteattr(_text(creator))}"
    return f"<DicomAttribute {names}>{''.join(_content(content))}</DicomAttribute>"


def _creator(model: JSONDataset, tag: str) -> str:
    if int(tag[:4], 16) % 2 == 0 or tag[4:6] == "00":
        return ""
    values = model.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value", [""])
    return str(values[0] or "")


def _content(content: dict[str, Any]) -> list[str]:
    if "BulkDataURI" in content:
        return [f"<BulkData uri={quoteattr(content['BulkDataURI'])}/>"]
    if "InlineBinary" in content:
        return [f"<InlineBinary>{content['InlineBinary']}</InlineBinary>"]
    return [
        _value(content["vr"], number, value)
        for number, value in enumerate(content.get("Value", []), 1)
        if value is not None
    ]


def _value(vr: str, number: int, value: Any) -> str:
    if vr == "SQ":
        return f'<Item number="{number}">{"".join(_attributes(value))}</Item>'
    if vr == "PN":
        groups = "".join(f"<{group}>{_name(text)}</{group}>" for group, text in value.items())
        return f'<PersonName number="{number}">{groups}</PersonName>'
    return f'<Value number="{number}">{escape(_text(value))}</Value>'


def _name(text: str) -> str:
    parts = zip(_PARTS, text.split("^"), strict=False)
    return "".join(f"<{part}>{escape(_text(value))}</{part}>" for part, value in parts if value)


def _text(value: object) -> str:
    return _FORBIDDEN.sub("", str(value))
