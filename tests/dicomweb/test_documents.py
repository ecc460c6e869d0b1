"""Reports and PDF are rendered as what a browser shows, and nothing in them is taken for markup."""

from __future__ import annotations

import html
from collections.abc import Iterator

import httpx
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, EncapsulatedPDFStorage

from tests import peers
from tests.dicomweb.archive import Archive, serving
from tests.dicomweb.datasets import image

PDF = b"%PDF-1.4 a document"


def item(kind: str, name: str = "", **attributes: object) -> Dataset:
    ds = Dataset()
    ds.ValueType, ds.RelationshipType = kind, "CONTAINS"
    if name:
        ds.ConceptNameCodeSequence = [code(name)]
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def code(meaning: str, value: str = "1") -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, "99TEST", meaning
    return ds


def measured(value: str, unit: str) -> list[Dataset]:
    ds = Dataset()
    ds.NumericValue, ds.MeasurementUnitsCodeSequence = value, [code(unit, unit)]
    return [ds]


def reference(uid: str) -> list[Dataset]:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
    return [ds]


def without_pixels(number: int, **attributes: object) -> Dataset:
    ds = image(1, f"1.2.9.{number}", "1.2.9", **attributes)
    del ds.PixelData
    return ds


def report() -> Dataset:
    ds = without_pixels(1, SOPClassUID=ComprehensiveSRStorage, Modality="SR", PatientName="Doe^<b>Jane")
    ds.ValueType, ds.ConceptNameCodeSequence = "CONTAINER", [code("Imaging Report")]
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    findings = item("CONTAINER", "Findings")
    findings.ContentSequence = [
        item("NUM", "Volume", MeasuredValueSequence=measured("12.5", "mL")),
        item("CODE", "Side", ConceptCodeSequence=[code("left")]),
        item("IMAGE", ReferencedSOPSequence=reference("1.2.3.4")),
    ]
    ds.ContentSequence = [item("TEXT", "Note", TextValue="<script>alert(1)</script> für"), findings]
    ds.SpecificCharacterSet = "ISO_IR 192"
    return ds


def pdf() -> Dataset:
    return without_pixels(2, SOPClassUID=EncapsulatedPDFStorage, EncapsulatedDocument=PDF + b" ")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    with serving(f"sqlite:///{folder / 'd.sqlite3'}", folder, [report(), pdf()]) as archive:
        yield archive


def rendered(archive: Archive, number: int, accept: str | None = None) -> httpx.Response:
    uid = f"1.2.9.{number}"
    return archive.get(f"/studies/1.2.9/series/{uid}/instances/{uid}.1/rendered", accept)


def test_a_report_is_a_page_with_its_tree_and_without_markup_of_others(archive: Archive):
    answer = rendered(archive, 1)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "<h1>Imaging Report</h1>" in answer.text
    assert "<li>Findings<ul><li>Volume: 12.5 mL</li><li>Side: left</li>" in answer.text
    assert "CT Image Storage 1.2.3.4" in answer.text
    assert "COMPLETE, UNVERIFIED" in answer.text
    assert "Note: &lt;script&gt;alert(1)&lt;/script&gt; für" in answer.text
    assert "<script" not in answer.text
    assert "<b>" not in answer.text


def test_a_report_is_plain_text_for_who_wants_that(archive: Archive):
    answer = rendered(archive, 1, "text/plain")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "\n- Findings\n  - Volume: 12.5 mL\n  - Side: left\n" in answer.text


def test_a_pdf_is_itself(archive: Archive):
    for accept in (None, "application/pdf"):
        answer = rendered(archive, 2, accept)
        assert (answer.headers["Content-Type"], answer.content) == ("application/pdf", PDF + b" ")


@pytest.mark.parametrize(("number", "accept"), [(1, "image/jpeg"), (1, "application/pdf"), (2, "text/html")])
def test_what_a_document_is_not_is_406(archive: Archive, number: int, accept: str):
    assert rendered(archive, number, accept).status_code == 406


def test_a_document_is_not_sent_twice(archive: Archive):
    uid = "1.2.9.1"
    path = f"/studies/1.2.9/series/{uid}/instances/{uid}.1/rendered"
    assert archive.get(path, If_None_Match=archive.get(path).headers["ETag"]).status_code == 304


def test_a_report_of_others_says_what_dcmtk_says(tmp_path):
    source = get_testdata_file("test-SR.dcm")
    ds = dcmread(source)
    page = html.unescape(peers.run("dsr2html", source).stdout)
    with serving(f"sqlite:///{tmp_path / 'd.sqlite3'}", tmp_path, [dcmread(source)]) as archive:
        path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
        ours = archive.get(f"{path}/rendered", "text/plain").text
    items = list(walk(ds))
    meanings = {
        each.ConceptNameCodeSequence[0].CodeMeaning for each in items if "ConceptNameCodeSequence" in each
    }
    texts = {each.TextValue.splitlines()[0] for each in items if each.get("ValueType") == "TEXT"}
    assert meanings
    assert texts
    for said in meanings | texts:
        assert (said in ours, said in page) == (True, True), said


def walk(ds: Dataset) -> Iterator[Dataset]:
    yield ds
    for each in ds.get("ContentSequence", ()):
        yield from walk(each)
