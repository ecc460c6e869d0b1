"""Reports for the eye: the content tree in words, and encapsulated PDF (PS3.3 C.17.3, PS3.18 8.7.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, EncapsulatedPDFStorage

from dicomnode.dicomweb.media import MediaType, is_refused
from dicomnode.errors import NotAcceptable, NotFound
from dicomnode.imaging.elements import text_of, value_of

HTML, PLAIN, PDF = "text/html", "text/plain", "application/pdf"
_REPORTS = ("SRStorage", "KeyObjectSelection", "ProcedureLog", "SpectaclePrescriptionReport")
_HEADER = {
    "Patient": ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    "Study": ("StudyDate", "StudyDescription", "AccessionNumber"),
    "Report": ("ContentDate", "ContentTime", "PreliminaryFlag", "CompletionFlag", "VerificationFlag"),
}
_SIMPLE = {
    "TEXT": "TextValue",
    "PNAME": "PersonName",
    "DATE": "Date",
    "TIME": "Time",
    "DATETIME": "DateTime",
    "UIDREF": "UID",
    "SCOORD": "GraphicType",
    "SCOORD3D": "GraphicType",
    "TCOORD": "TemporalRangeType",
}


def is_document(SOPClassUID: str) -> bool:
    """True for what has no pixels and is read: reports and PDF."""
    return bool(_offers(SOPClassUID))


def document_type(SOPClassUID: str, ranges: Sequence[MediaType]) -> str:
    """What a document is given as: HTML unless plain text is wanted more, or PDF. Raises NotAcceptable."""
    offers = _offers(SOPClassUID)
    for each in ranges:
        for offer in offers:
            if each.quality > 0 and each.covers(offer) and not is_refused(ranges, offer):
                return offer
    raise NotAcceptable(offers)


def document(ds: Dataset, media_type: str) -> bytes:
    """The document in that form. Raises NotFound where there is no content."""
    if media_type == PDF:
        content: bytes | None = value_of(ds, "EncapsulatedDocument")
        if not content:
            raise NotFound("document", "here")
        return content
    return (_html(ds) if media_type == HTML else "\n".join(_plain(ds))).encode()


def _offers(SOPClassUID: str) -> tuple[str, ...]:
    if SOPClassUID == EncapsulatedPDFStorage:
        return (PDF,)
    keyword = UID(SOPClassUID).keyword
    return (HTML, PLAIN) if any(part in keyword for part in _REPORTS) else ()


def _html(ds: Dataset) -> str:
    title = escape(_said(ds) or "Report")
    header = "".join(f"<p>{escape(line)}</p>" for line in _header(ds))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
        f"<body><h1>{title}</h1>{header}{_list(ds)}</body></html>"
    )


def _list(item: Dataset) -> str:
    entries = "".join(f"<li>{escape(_said(each))}{_list(each)}</li>" for each in _children(item))
    return f"<ul>{entries}</ul>" if entries else ""


def _plain(ds: Dataset) -> Iterator[str]:
    yield _said(ds) or "Report"
    yield from _header(ds)
    yield from _indented(ds, "")


def _indented(item: Dataset, before: str) -> Iterator[str]:
    for each in _children(item):
        yield f"{before}- " + _said(each).replace("\n", f"\n{before}  ")
        yield from _indented(each, f"{before}  ")


def _header(ds: Dataset) -> Iterator[str]:
    for name, keywords in _HEADER.items():
        if said := [text for keyword in keywords if (text := text_of(ds, keyword))]:
            yield f"{name}: {', '.join(said)}"


def _children(item: Dataset) -> Sequence[Dataset]:
    return _items(item, "ContentSequence")


def _items(item: Dataset, keyword: str) -> Sequence[Dataset]:
    items = value_of(item, keyword)
    return items if isinstance(items, DicomSequence) else ()


def _said(item: Dataset) -> str:
    """Name and value of a content item, as far as it has them."""
    return ": ".join(part for part in (_meaning(item, "ConceptNameCodeSequence"), _value(item)) if part)


def _value(item: Dataset) -> str:
    kind = text_of(item, "ValueType")
    if kind in _SIMPLE:
        return text_of(item, _SIMPLE[kind])
    if kind == "CODE":
        return _meaning(item, "ConceptCodeSequence")
    if kind == "NUM":
        return _measured(item)
    if referenced := _items(item, "ReferencedSOPSequence"):
        frames = text_of(referenced[0], "ReferencedFrameNumber")
        name = UID(text_of(referenced[0], "ReferencedSOPClassUID")).name
        uid = text_of(referenced[0], "ReferencedSOPInstanceUID")
        return f"{name} {uid}" + (f", frame {frames}" if frames else "")
    return ""


def _measured(item: Dataset) -> str:
    measured = _items(item, "MeasuredValueSequence")
    if not measured:
        return _meaning(item, "NumericValueQualifierCodeSequence") or "no value"
    unit = _items(measured[0], "MeasurementUnitsCodeSequence")
    code = text_of(unit[0], "CodeValue") if unit else ""
    return f"{text_of(measured[0], 'NumericValue')} {code if code != '1' else ''}".strip()


def _meaning(item: Dataset, keyword: str) -> str:
    codes = _items(item, keyword)
    return text_of(codes[0], "CodeMeaning") if codes else ""
