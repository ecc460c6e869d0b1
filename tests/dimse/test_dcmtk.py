"""DCMTK's programs call the receiver."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from dicomnode.dimse.presentation import NATIVE
from tests.dimse.nodes import StartNode, dataset_bytes, outgoing, small_ct, write
from tests.peers import run

SYNTAXES = [
    "BigEndianExplicit",
    "DeflatedExplicitVRLittleEndian",
    "JPEG2000LosslessOnly",
    "JPEG2000T",
    "JPEGLSLossless",
    "JPEGLSLossy",
    "JPEGProcess14SV1",
    "JPEGProcess14T",
    "JPEGProcess1T",
    "JPEGProcess2_4",
    "LittleEndianExplicit",
    "LittleEndianImplicit",
    "RLELossless",
]


def test_echoscu_gets_an_answer(start_node: StartNode) -> None:
    node = start_node()
    run("echoscu", "-aec", "DICOMNODE", "127.0.0.1", node.receiver.port)


def test_echoscu_is_told_that_it_is_not_known(start_node: StartNode) -> None:
    node = start_node(accept=())
    done = run("echoscu", "-aec", "DICOMNODE", "127.0.0.1", node.receiver.port, check=False)
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stdout + done.stderr


def values_of(data: bytes, syntax: str) -> Dataset:
    """The data set without what DCMTK writes anew: lengths of sequences, padding, byte order."""
    preamble = BytesIO()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    write_file_meta_info(preamble, meta, enforce_standard=False)
    return standard(dcmread(BytesIO(b"\0" * 128 + b"DICM" + preamble.getvalue() + data)))


def standard(ds: Dataset) -> Dataset:
    """The data set without what DCMTK may write otherwise: group lengths, which are retired, and private
    values of an unknown VR, whose bytes it cannot swap (PS3.5 7.2, 6.2.2)."""
    for tag in [tag for tag in sorted(ds.keys()) if tag.element == 0 or tag.is_private]:
        del ds[tag]
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_dcmsend_sends_each_transfer_syntax_and_its_values_arrive(
    start_node: StartNode, shared_data: Path, syntax: str
) -> None:
    [file] = (shared_data / "codecs").glob(f"CTImage_{syntax}*.dcm")
    node = start_node()
    run("dcmsend", "-aec", "DICOMNODE", "--decompress-never", "127.0.0.1", node.receiver.port, file)
    [received] = node.received
    sent, instance = standard(dcmread(file)), outgoing(file)
    assert received.SOPInstanceUID == instance.SOPInstanceUID
    arrived = values_of(received.data, received.TransferSyntaxUID)
    if instance.TransferSyntaxUID in NATIVE:
        # dcmsend offers the native syntaxes together: Explicit VR Little Endian is taken.
        assert received.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (arrived.pixel_array == sent.pixel_array).all()
    else:
        assert received.TransferSyntaxUID == instance.TransferSyntaxUID
        assert arrived.PixelData == sent.PixelData
    # Compared above; its VR, OB or OW, is DCMTK's choice.
    del arrived.PixelData, sent.PixelData
    assert arrived == sent


def test_dcmsend_that_would_decompress_is_asked_for_the_data_as_they_are(
    start_node: StartNode, shared_data: Path
) -> None:
    [file] = (shared_data / "codecs").glob("CTImage_JPEGLSLossless*.dcm")
    node = start_node()
    run("dcmsend", "-aec", "DICOMNODE", "127.0.0.1", node.receiver.port, file)
    assert [received.TransferSyntaxUID for received in node.received] == [JPEGLSLossless]


def test_storescu_sends_a_folder(start_node: StartNode, tmp_path: Path) -> None:
    instances = [write(small_ct(), tmp_path) for _ in range(5)]
    node = start_node()
    run("storescu", "-aec", "DICOMNODE", "127.0.0.1", node.receiver.port, *(one.path for one in instances))
    assert {received.SOPInstanceUID: received.data for received in node.received} == {
        one.SOPInstanceUID: dataset_bytes(one.path) for one in instances
    }


def test_findscu_gets_the_matches(start_node: StartNode) -> None:
    match = Dataset()
    match.QueryRetrieveLevel = "STUDY"
    match.StudyInstanceUID = "1.2.3.4.5"
    node = start_node(on_find=lambda _: [match])
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", "-k", "PatientID=P*"]
    done = run("findscu", "-v", "-S", "-aec", "DICOMNODE", "127.0.0.1", node.receiver.port, *keys)
    assert "1.2.3.4.5" in done.stdout + done.stderr
    assert [(asked.QueryRetrieveLevel, asked.PatientID) for asked in node.queries] == [("STUDY", "P*")]
