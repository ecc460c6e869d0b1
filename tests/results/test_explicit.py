"""What is encoded by hand is what pydicom would write, and stays as it is among what pydicom writes."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, MRImageStorage

from dicomnode.model.result import ResultRole
from dicomnode.results import explicit
from dicomnode.results.instance import Kind, new_instance
from dicomnode.results.references import Reference


@pytest.mark.parametrize("frame", [None, 1, 12])
@pytest.mark.parametrize("instance", ["1.2.3", "1.2.34"])
def test_an_encoded_reference_is_the_item_that_pydicom_writes(frame, instance):
    reference = Reference("1.2", "1.2.3", str(MRImageStorage), instance, frame)
    assert reference.encoded() == explicit.item(explicit.encoded(reference.item()))


def test_encoded_items_at_any_depth_are_written_as_they_are_and_open_vrs_are_decided(manifest, provenance):
    references = [Reference("1.2", "1.2.3", str(MRImageStorage), f"1.2.3.{number}") for number in range(3)]
    items = b"".join(reference.encoded() for reference in references)
    kind = Kind(ResultRole.SR, str(Comprehensive3DSRStorage), "SR", "SR")
    ds = new_instance(kind, "Title", manifest, provenance)
    ds.SpecificCharacterSet, ds.SeriesDescription = "ISO_IR 192", "Größe"
    ds.PixelRepresentation, inner = 1, Dataset()
    inner.PixelPaddingValue, inner.SeriesDescription = -5, "Länge"
    explicit.put_items(inner, "ReferencedSOPSequence", items)
    ds.ReferencedSeriesSequence = [inner]
    explicit.put_items(ds, "SourceImageSequence", items)
    explicit.make_explicit(ds)
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    assert buffer.getvalue().count(items) == 2
    read = dcmread(BytesIO(buffer.getvalue()))
    told = read.ReferencedSeriesSequence[0]
    assert (read.SeriesDescription, told.SeriesDescription) == ("Größe", "Länge")
    assert (told["PixelPaddingValue"].VR, told.PixelPaddingValue) == ("SS", -5)
    for sequence in (read.SourceImageSequence, told.ReferencedSOPSequence):
        assert [item.ReferencedSOPInstanceUID for item in sequence] == [
            each.SOPInstanceUID for each in references
        ]
