"""The head of a stored file: preamble and file meta information (PS3.10 7.1)."""

from __future__ import annotations

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from dicomnode.model.uid import IMPLEMENTATION_CLASS_UID


def file_head(SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> bytes:
    """The bytes before a data set; the same for the same UIDs in every version of dicomnode.

    So the digest of a file changes only if the data set does, and a duplicate is recognised by it.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(SOPInstanceUID)
    meta.TransferSyntaxUID = UID(TransferSyntaxUID)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = "DICOMNODE"
    buffer = DicomBytesIO()
    buffer.write(b"\x00" * 128 + b"DICM")
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return buffer.getvalue()
