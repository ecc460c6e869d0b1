"""What a running receiver took in, and small instances to send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from dicomnode.dimse.receiver import AcceptRule, Receiver, ReceiverSettings
from dicomnode.model.instance import AssociationFacts, Received
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance

AE_TITLE = "DICOMNODE"
ANYBODY = (AcceptRule("*", ip_network("127.0.0.0/8")),)
SETTINGS = ReceiverSettings(AE_TITLE, "127.0.0.1", 0, ANYBODY, network_timeout_s=20.0, acse_timeout_s=20.0)


@dataclass
class Node:
    """A running receiver, and what it has taken in."""

    receiver: Receiver
    received: list[Received] = field(default_factory=list)
    associations: list[AssociationFacts] = field(default_factory=list)
    queries: list[Dataset] = field(default_factory=list)

    @property
    def peer(self) -> Peer:
        return Peer(AE_TITLE, "127.0.0.1", self.receiver.port, response_timeout_s=20.0)


StartNode = Callable[..., Node]


def small_ct(**elements: object) -> Dataset:
    """A CT image of 8 by 8 pixels, with an element of each kind that encoders like to change."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.PatientID = "P1"
    ds.PatientName = "Doe^Jane"
    ds.Modality = "CT"
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = bytes(range(128))
    ds["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def write(ds: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian) -> OutgoingInstance:
    """Write a data set as a file (PS3.10)."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    dcmwrite(path, ds, enforce_file_format=True)
    return OutgoingInstance(str(ds.SOPClassUID), str(ds.SOPInstanceUID), syntax, str(path))


def outgoing(path: Path) -> OutgoingInstance:
    """A file as the sender takes it."""
    meta = read_file_meta_info(path)
    return OutgoingInstance(
        str(meta.MediaStorageSOPClassUID),
        str(meta.MediaStorageSOPInstanceUID),
        str(meta.TransferSyntaxUID),
        str(path),
    )


def dataset_bytes(path: str | Path) -> bytes:
    """What follows the file meta information."""
    data = Path(path).read_bytes()
    assert data[128:140] == b"DICM\x02\0\0\0UL\4\0"
    return data[144 + int.from_bytes(data[140:144], "little") :]
