"""Which presentation contexts are accepted, and in which transfer syntax (PS3.8 9.3.2, PS3.4 B.5)."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.service_class import NonPatientObjectStorageServiceClass
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
    uid_to_service_class,
)

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
"""Uncompressed, the best first: Explicit VR keeps what Implicit VR drops, the VRs of private elements."""

STUDY_ROOT_FIND = str(StudyRootQueryRetrieveInformationModelFind)
VERIFICATION = str(Verification)

_STORAGE_ROOTS = (
    "1.2.840.10008.5.1.4.1.1.",
    "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction Storage - Trial
    "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image Storage
    "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image Storage
)
_NOT_FOR_DIMSE = (
    "1.2.840.10008.1.2.6.",  # MIME and XML encodings
    "1.2.840.10008.1.2.7.",  # real-time video, which goes over RTP
    "1.2.840.10008.1.20",  # Papyrus, a file format
)


def _storage_classes() -> frozenset[str]:
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    listed = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and uid.startswith(_STORAGE_ROOTS)
    }
    patientless = {uid for uid in listed if uid_to_service_class(uid) is NonPatientObjectStorageServiceClass}
    return frozenset(known | listed - patientless)


STORAGE_CLASSES = _storage_classes()
"""Every storage SOP class of the standard whose instances belong to a patient, retired ones too."""

TRANSFER_SYNTAXES = frozenset(
    uid
    for uid, (_, kind, *_) in UID_dictionary.items()
    if kind == "Transfer Syntax" and not uid.startswith(_NOT_FOR_DIMSE)
)
"""Every transfer syntax that a data set on the wire can have, retired ones too."""

_LOSSLESS = frozenset(
    uid
    for uid in TRANSFER_SYNTAXES
    for name in [UID_dictionary[uid][0]]
    if any(word in name for word in ("Lossless", "Uncompressed", "Deflated")) and "Near-Lossless" not in name
) | {*NATIVE}


def by_preference(proposed: Iterable[str]) -> list[str]:
    """The supported ones of the proposed transfer syntaxes, the best first.

    The sender's order holds, for a sender names first what its data are in, and what is first needs no
    conversion there. Two exceptions: among the uncompressed ones Explicit VR Little Endian comes first, since
    many name Implicit VR first out of habit; and whatever may lose something comes last, since a sender that
    offers both would compress for us.
    """
    known = [syntax for syntax in dict.fromkeys(proposed) if syntax in TRANSFER_SYNTAXES]
    first_native = min((known.index(syntax) for syntax in known if syntax in NATIVE), default=0)

    def rank(syntax: str) -> tuple[bool, int, int]:
        if syntax in NATIVE:
            return False, first_native, NATIVE.index(syntax)
        return syntax not in _LOSSLESS, known.index(syntax), 0

    return sorted(known, key=rank)


def native(proposed: Iterable[str]) -> list[str]:
    """The uncompressed ones of the proposed transfer syntaxes, the best first: where there are no pixels."""
    return [syntax for syntax in by_preference(proposed) if syntax in NATIVE]
