"""Bytes as a data set: the structural check, and the header as ingest reads it, refuse or let through."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from functools import partial
from io import BytesIO

import atheris

with atheris.instrument_imports(include=["dicomnode.imaging", "dicomnode.services.ingest"]):
    from dicomnode.imaging.plain_header import NotPlain
    from dicomnode.imaging.structure import check_structure
    from dicomnode.services.ingest import _PLAIN, _read_header, _text

from pydicom.uid import UID

from dicomnode.dimse.pynetdicom_settings import configure_pynetdicom
from dicomnode.errors import NotDicom
from dicomnode.model.limits import InstanceLimits

SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5")
LIMITS = InstanceLimits(elements=10_000)


def take(data: bytes) -> None:
    """The first byte chooses the transfer syntax, the second how much is seen at a time."""
    if len(data) < 2:
        return
    syntax, window, body = SYNTAXES[data[0] % 4], 64 + data[1] * 16, data[2:]
    verdicts: list[object] = []
    for length in (window, len(body) + 64):
        try:
            source = partial(_seen, body, length)
            verdicts.append(dict(check_structure(source, len(body), syntax, LIMITS, _PLAIN.tags)))
        except NotDicom as error:
            verdicts.append(str(error))
    if verdicts[0] != verdicts[1]:
        raise AssertionError(f"the windows decide: {verdicts}")
    if isinstance(places := verdicts[0], dict):
        read(body, places, UID(syntax))


def _seen(body: bytes, length: int, at: int) -> bytes:
    return body[at : at + length]


def read(body: bytes, places: dict[int, int], syntax: UID) -> None:
    """The header by both readers: where both can read it, they read the same."""
    by_pydicom, plain = None, None
    with suppress(NotDicom):
        by_pydicom = _read_header(BytesIO(body), syntax)
    if syntax.is_little_endian:
        with suppress(NotPlain):
            plain = _PLAIN.read(body, places, is_implicit=syntax.is_implicit_VR)
    if by_pydicom is not None and plain is not None:
        for keyword in ("StudyInstanceUID", "SOPInstanceUID", "PatientID", "Rows"):
            if _text(plain, keyword) != _text(by_pydicom, keyword):
                raise AssertionError(f"{keyword} is read in two ways")


if __name__ == "__main__":
    configure_pynetdicom()
    warnings.simplefilter("ignore")
    atheris.Setup(sys.argv, take)
    atheris.Fuzz()
