"""Encoded pictures and documents against what was drawn and written."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.manifest import Manifest
from dicomnode.results.codes import RESEARCH_ONLY
from dicomnode.results.drawing import Picture
from dicomnode.results.summary import plain, rows

_SHOWN = re.compile(rb"\(((?:[^()\\]|\\.)*)\) Tj")
_ESCAPED = re.compile(rb"\\([0-7]{3}|.)")


def compare_picture(ds: Dataset, picture: Picture) -> None:
    """Raises GateFailed unless `ds` is the picture, pixel for pixel, and says that no identity is in it."""
    try:
        kind = (text_of(ds, "PhotometricInterpretation"), ds.BitsAllocated, ds.PlanarConfiguration)
        if kind != ("RGB", 8, 0) or (ds.Rows, ds.Columns, 3) != picture.shape:
            raise GateFailed("the SC is of another kind or size than was drawn")
        if not np.array_equal(np.frombuffer(ds.PixelData, np.uint8, picture.size), picture.ravel()):
            raise GateFailed("the SC shows something else than was drawn")
        if text_of(ds, "BurnedInAnnotation") != "NO":
            raise GateFailed("the SC does not say that no identity is burned in")
    except UNREADABLE as error:
        raise GateFailed(f"the SC cannot be read back ({type(error).__name__})") from error


def compare_pdf(
    ds: Dataset, findings: Findings, headers: Sequence[Dataset], manifest: Manifest, *, research_only: bool
) -> None:
    """Raises GateFailed unless each number and each absence is printed in the PDF, in the manifest's order,
    with the patient's ID and, where it must be, RESEARCH ONLY on each page."""
    try:
        document = bytes(ds.EncapsulatedDocument)[: ds.EncapsulatedDocumentLength]
        printed = [_unescaped(found) for found in _SHOWN.findall(document)]
    except UNREADABLE as error:
        raise GateFailed(f"the PDF cannot be read back ({type(error).__name__})") from error
    if not document.startswith(b"%PDF-") or not document.rstrip().endswith(b"%%EOF"):
        raise GateFailed("the encapsulated document is no PDF")
    text = " ".join(printed)
    position = 0
    for row in rows(findings, manifest):
        words = plain(f"{row.thing}: {row.words}")
        if not _is_latin(words):
            continue  # Other letters are printed as numbers of glyphs, which nothing here reads.
        position = text.find(words, position)
        if position < 0:
            raise GateFailed("the PDF does not say all that was found")
    if (patient := text_of(headers[0], "PatientID")) and patient.isascii() and patient not in text:
        raise GateFailed("the PDF does not say whose it is")
    pages = document.count(b"/Type /Page\n") + document.count(b"/Type /Page ")
    if research_only and printed.count(RESEARCH_ONLY) < max(pages, 1):
        raise GateFailed("a page of the PDF does not say RESEARCH ONLY")


def _is_latin(text: str) -> bool:
    return text.encode("cp1252", errors="ignore").decode("cp1252") == text


def _unescaped(text: bytes) -> str:
    """A string of a content stream in WinAnsiEncoding (PDF 32000 7.3.4.2)."""
    plain = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]) if found[1].isdigit() else found[1], text)
    return plain.decode("cp1252", errors="replace")
