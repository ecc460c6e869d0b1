"""Headers that are read without pydicom have the values that pydicom reads."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.errors import NotDicom
from dicomnode.imaging.plain_header import NotPlain, PlainHeader
from dicomnode.imaging.structure import check_structure
from dicomnode.model.limits import InstanceLimits
from dicomnode.model.searched import IMAGE_KEYWORDS, SERIES_KEYWORDS
from dicomnode.services.ingest import STUDY_KEYWORDS
from tests.dimse.nodes import small_ct

KEYWORDS = (
    *STUDY_KEYWORDS,
    "SeriesInstanceUID",
    *SERIES_KEYWORDS,
    *IMAGE_KEYWORDS,
    "InstanceNumber",
    "RequestAttributesSequence",
)
PLAIN = PlainHeader((*KEYWORDS, "SpecificCharacterSet"))
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def encoded(ds: Dataset, *, implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, ds)
    return buffer.getvalue()


def by_pydicom(data: bytes, *, implicit: bool) -> dict[str, str]:
    ds = read_dataset(BytesIO(data), implicit, True)
    return {
        keyword: str(ds[keyword].value) for keyword in KEYWORDS if keyword in ds and not empty(ds, keyword)
    }


def empty(ds: Dataset, keyword: str) -> bool:
    return ds[keyword].value is None or ds[keyword].value == ""


def places(data: bytes, *, implicit: bool) -> Mapping[int, int]:
    """Where the elements are, as ingest learns it."""
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return check_structure(lambda at: data[at:], len(data), syntax, InstanceLimits(), PLAIN.tags)


def plainly(data: bytes, *, implicit: bool) -> dict[str, str]:
    values = PLAIN.read(data, places(data, implicit=implicit), is_implicit=implicit)
    return {keyword: str(values[keyword]) for keyword in KEYWORDS if values.get(keyword) not in (None, "")}


def sequence_item() -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = "S1", "R1"
    inner = Dataset()
    inner.CodeValue = "1"
    item.ScheduledProtocolCodeSequence = [inner]
    return item


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("undefined", [False, True])
def test_a_header_with_sequences_has_the_values_that_pydicom_reads(implicit: bool, undefined: bool) -> None:
    ds = small_ct(
        SpecificCharacterSet="ISO_IR 100",
        PatientName="Müller^Jürgen",
        RequestAttributesSequence=[sequence_item()],
        ReferencedStudySequence=[sequence_item(), sequence_item()],
        InstanceNumber=7,
    )
    for keyword in ("RequestAttributesSequence", "ReferencedStudySequence"):
        ds[keyword].is_undefined_length = undefined
        for item in ds[keyword].value:
            item.is_undefined_length_sequence_item = undefined
    data = encoded(ds, implicit=implicit)
    values = plainly(data, implicit=implicit)
    assert values == by_pydicom(data, implicit=implicit)
    assert values["PatientName"] == "Müller^Jürgen"


TEXT = st.text(st.characters(codec="ascii"), max_size=16)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["PatientID", "StudyDescription", "PatientName", "AccessionNumber"]), TEXT
    ),
    st.booleans(),
    st.sampled_from(["", "ISO_IR 6", "ISO_IR 100", "ISO_IR 192"]),
)
def test_what_is_read_plainly_is_what_pydicom_reads(
    texts: dict[str, str], implicit: bool, charset: str
) -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = charset
    ds.Modality, ds.Rows = "CT", 4
    for keyword, text in texts.items():
        setattr(ds, keyword, text)
    data = encoded(ds, implicit=implicit)
    try:
        values = plainly(data, implicit=implicit)
    except NotPlain:
        return
    assert values == by_pydicom(data, implicit=implicit)


@settings(deadline=None)
@given(
    st.binary(max_size=200),
    st.booleans(),
    st.dictionaries(st.sampled_from(sorted(PLAIN.tags)), st.integers(0, 199)),
)
def test_bytes_that_are_no_header_are_not_plain_or_hold_nothing_wrong(
    data: bytes, implicit: bool, anywhere: dict[int, int]
) -> None:
    with suppress(NotDicom):
        anywhere = {**anywhere, **places(data, implicit=implicit)}
    try:
        PLAIN.read(data, anywhere, is_implicit=implicit)
    except NotPlain:
        return


def test_a_header_that_goes_on_is_not_plain() -> None:
    data = encoded(small_ct(), implicit=False)
    with pytest.raises(NotPlain):
        PLAIN.read(data[:100], places(data, implicit=False), is_implicit=False)


@pytest.mark.parametrize("implicit", [False, True])
def test_what_follows_the_pixels_is_no_part_of_the_header(implicit: bool) -> None:
    ds = small_ct(SamplesPerPixel=1, PixelData=b"\0\0")
    data = encoded(ds, implicit=implicit)
    late = Dataset()
    late.PatientID = "another"
    assert places(data + encoded(late, implicit=implicit), implicit=implicit) == places(
        data, implicit=implicit
    )
