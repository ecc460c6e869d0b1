"""A data set of ours as the bytes of a DICOM file (PS3.10 7)."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicomnode.imaging.elements import text_of, value_of
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.model.searched import IMAGE_KEYWORDS, SERIES_KEYWORDS
from dicomnode.model.uid import IMPLEMENTATION_CLASS_UID
from dicomnode.results.explicit import make_explicit
from dicomnode.results.provenance import Provenance
from dicomnode.results.source import carry_character_set, carry_identity, stamp, texts_of


def finish(
    ds: Dataset,
    role: ResultRole,
    source: Dataset,
    provenance: Provenance,
    tail: Iterable[bytes | memoryview] = (),
) -> EncodedResult:
    """Give `ds` the identity of `source`, its times and its origin, and encode it.

    `tail` are encoded elements that come after the last one of `ds`; they are copied once, into the file.
    """
    own_texts = [*texts_of(ds), provenance.station_name]
    carry_identity(ds, source)
    carry_character_set(ds, source, own_texts)
    stamp(ds, source, provenance.produced_at)
    if provenance.station_name:
        ds.StationName = provenance.station_name[:16]
    ds.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    ds.file_meta.ImplementationVersionName = f"DICOMNODE_{provenance.software_version}"[:16]
    make_explicit(ds)
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return EncodedResult(
        role=role,
        StudyInstanceUID=str(ds.StudyInstanceUID),
        SeriesInstanceUID=str(ds.SeriesInstanceUID),
        SOPClassUID=str(ds.SOPClassUID),
        SOPInstanceUID=str(ds.SOPInstanceUID),
        TransferSyntaxUID=str(ds.file_meta.TransferSyntaxUID),
        data=b"".join((buffer.getbuffer(), *tail)),
        searched=_searched(ds),
    )


def _searched(ds: Dataset) -> dict[str, str | int | None]:
    """What a search for it asks, as the catalog takes it; no result carries the request of its source."""
    counts = {keyword: value_of(ds, keyword) for keyword in IMAGE_KEYWORDS}
    return {
        **{keyword: text_of(ds, keyword) for keyword in (*SERIES_KEYWORDS, "InstanceNumber")},
        **{keyword: None if value is None else int(value) for keyword, value in counts.items()},
    }
