"""The report for people, as an Encapsulated PDF (PS3.3 A.45.1, C.24)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import highdicom.sr as hdsr
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage
from pydicom.valuerep import PersonName
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfgen.canvas import Canvas

from dicomnode.imaging.elements import text_of, value_of
from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.codes import RESEARCH_ONLY, content_description
from dicomnode.results.instance import Kind, new_instance
from dicomnode.results.part10 import finish
from dicomnode.results.picture import draw_findings
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import each_once, source_references
from dicomnode.results.summary import Row, plain, rows

_KIND = Kind(ResultRole.REPORT, EncapsulatedPDFStorage, "DOC", "report")
_WIDTH, _HEIGHT = A4
_MARGIN = 48.0
_LINE = 15.0
_LATIN = "Helvetica"
_BY_SCRIPT = (
    ((0x3040, 0x30FF), "HeiseiMin-W3"),
    ((0xAC00, 0xD7AF), "HYSMyeongJo-Medium"),
    ((0x4E00, 0x9FFF), "STSong-Light"),
)
"""Fonts that PDF readers have for kana, for hangul and for han, in the order in which they are tried."""
_NOT_PRINTABLE = "(see the header of this document)"


def encode_pdf(
    findings: Findings, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> EncodedResult:
    """Who, what and when; the planes, where there are any to draw; each number that was measured."""
    document = _written(findings, headers[0], manifest, provenance)
    ds = new_instance(_KIND, manifest.pipeline.title, manifest, provenance)
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "YES"
    ds.AcquisitionDateTime = None
    ds.DocumentTitle = content_description(manifest.pipeline.title, provenance)
    ds.ConceptNameCodeSequence = [hdsr.CodedConcept("126000", "DCM", "Imaging Measurement Report")]
    sources = source_references(headers, findings.geometry.frames)
    ds.SourceInstanceSequence = [source.item() for source in each_once(sources)]
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(document)
    ds.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return finish(ds, ResultRole.REPORT, headers[0], provenance)


def line_of(row: Row) -> str:
    """A row of the table as it is printed."""
    return f"{row.thing}: {row.words}"


def _written(findings: Findings, header: Dataset, manifest: Manifest, provenance: Provenance) -> bytes:
    """Pages are not compressed: the gate reads the lines back. The same findings give the same bytes."""
    buffer = BytesIO()
    pages = _Pages(
        Canvas(buffer, pagesize=A4, pageCompression=0, invariant=1),
        f"{manifest.pipeline.title} {manifest.pipeline.version}",
        research_only=provenance.research_only,
    )
    for line in _identity(header, provenance):
        pages.line(line)
    if findings.preview is not None:
        drawn = draw_findings(
            findings, header, manifest, research_only=provenance.research_only, with_table=False
        )
        pages.picture(Image.fromarray(drawn))
    for row in rows(findings, manifest):
        pages.line(line_of(row), row.colour)
    for note in findings.geometry.notes:
        pages.line(note)
    pages.line(f"Computed by {manifest.algorithm.name}, not verified by a person.")
    pages.end()
    return buffer.getvalue()


class _Pages:
    """Lines and a picture from the top of a page to its bottom, and on the next."""

    def __init__(self, canvas: Canvas, title: str, *, research_only: bool) -> None:
        self._canvas, self._title, self._research_only = canvas, title, research_only
        self._begin()

    def line(self, text: str, colour: tuple[int, int, int] | None = None) -> None:
        """A line, after a square of the colour; what does not fit is continued."""
        font = font_for(text := plain(text))
        if font == _LATIN:
            text = text.encode("cp1252", errors="replace").decode("cp1252")
        room = _WIDTH - 2 * _MARGIN - 16
        for part in simpleSplit(text, font, 10, room):
            self._room(_LINE)
            if colour:
                self._canvas.setFillColorRGB(*(channel / 255 for channel in colour))
                self._canvas.rect(_MARGIN, self._y, 9, 9, stroke=0, fill=1)
                colour = None
            self._canvas.setFillGray(0)
            self._canvas.setFont(font, 10)
            self._canvas.drawString(_MARGIN + 16, self._y, part)

    def picture(self, image: Image.Image) -> None:
        """As wide as the page."""
        width = _WIDTH - 2 * _MARGIN
        height = width * image.height / image.width
        self._room(height + _LINE)
        self._canvas.drawImage(ImageReader(image), _MARGIN, self._y, width, height)
        self._y -= _LINE / 2

    def end(self) -> None:
        """No more."""
        self._canvas.showPage()
        self._canvas.save()

    def _room(self, height: float) -> None:
        if self._y - height < _MARGIN:
            self._canvas.showPage()
            self._begin()
        self._y -= height

    def _begin(self) -> None:
        self._y = _HEIGHT - _MARGIN
        self._canvas.setFillGray(0)
        self._canvas.setFont("Helvetica-Bold", 15)
        self._canvas.drawString(_MARGIN, self._y, self._title)
        if self._research_only:
            self._canvas.setFillColorRGB(0.8, 0.1, 0.1)
            self._canvas.drawRightString(_WIDTH - _MARGIN, self._y, RESEARCH_ONLY)
        self._y -= 1.5 * _LINE


def font_for(text: str) -> str:
    """A font that has the letters of `text`; Helvetica where there is none."""
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        for (first, last), font in _BY_SCRIPT:
            if any(first <= ord(letter) <= last for letter in text):
                registerFont(UnicodeCIDFont(font))
                return font
    return _LATIN


def _identity(header: Dataset, provenance: Provenance) -> list[str]:
    date = text_of(header, "StudyDate")
    return [
        f"Patient: {_name(header)}",
        f"Patient ID: {_printable(text_of(header, 'PatientID'))}",
        f"Born: {text_of(header, 'PatientBirthDate') or 'unknown'}",
        f"Study: {date or 'undated'} {_printable(text_of(header, 'StudyDescription'))}".rstrip(),
        f"Accession number: {_printable(text_of(header, 'AccessionNumber')) or 'none'}",
        f"Written: {provenance.produced_at:%Y-%m-%d %H:%M %z} by {provenance.model_name}"
        f" {provenance.software_version}",
    ]


def _name(header: Dataset) -> str:
    """The first way of writing the name that a font here can print."""
    name = value_of(header, "PatientName")
    if not isinstance(name, PersonName):
        return "unknown"
    for written in (name.ideographic, name.alphabetic, name.phonetic):
        words = " ".join(written.replace("^", " ").split())
        if words and _printable(words) == words:
            return words
    return _NOT_PRINTABLE


def _printable(text: str) -> str:
    if font_for(text) == _LATIN:
        try:
            text.encode("cp1252")
        except UnicodeEncodeError:
            return _NOT_PRINTABLE
    return text
