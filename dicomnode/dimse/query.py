"""The service class user for Query (PS3.4 C.4.1, Study Root model C.6.2)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pynetdicom import build_context

from dicomnode.dimse.presentation import NATIVE, STUDY_ROOT_FIND
from dicomnode.dimse.requestor import association
from dicomnode.dimse.status import SUCCESS
from dicomnode.errors import AssociationFailed, ContextRefused, DimseError
from dicomnode.model.peer import Peer

_PENDING = frozenset({0xFF00, 0xFF01})
_SYNTAXES = NATIVE[:2]


def listed_instances(
    peer: Peer, calling_ae: str, StudyInstanceUID: str, SeriesInstanceUID: str
) -> frozenset[str]:
    """The SOP Instance UIDs that the peer lists for one series.

    Raises AssociationFailed where the peer cannot be asked, ContextRefused where it does not take part in
    Study Root C-FIND, DimseError where it answers with a failure or with what cannot be read.
    """
    with association(peer, calling_ae, [build_context(STUDY_ROOT_FIND, list(_SYNTAXES))]) as assoc:
        if not assoc.accepted_contexts:
            raise ContextRefused(STUDY_ROOT_FIND, str(_SYNTAXES[0]))
        try:
            responses = assoc.send_c_find(_identifier(StudyInstanceUID, SeriesInstanceUID), STUDY_ROOT_FIND)
        except RuntimeError as error:  # pynetdicom's word for an association that ended just now
            raise AssociationFailed("the association was lost") from error
        found: set[str] = set()
        for response, match in responses:
            status = response.get("Status")
            if status is None:
                raise AssociationFailed("the association was lost before the peer had answered")
            if status in _PENDING:
                found |= _listed(match, SeriesInstanceUID)
            elif status != SUCCESS:
                raise DimseError(f"the peer answered C-FIND with status 0x{int(status):04X}")
        return frozenset(found)


def _identifier(StudyInstanceUID: str, SeriesInstanceUID: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "IMAGE"
    ds.StudyInstanceUID = StudyInstanceUID
    ds.SeriesInstanceUID = SeriesInstanceUID
    ds.SOPInstanceUID = ""
    return ds


def _listed(match: Dataset | None, SeriesInstanceUID: str) -> set[str]:
    """The instance of one response; none where the peer answers with another series than the asked one."""
    if match is None:
        raise DimseError("the peer's answer to C-FIND cannot be read")
    series = str(match.get("SeriesInstanceUID") or SeriesInstanceUID)
    instance = str(match.get("SOPInstanceUID") or "")
    return {instance} if instance and series == SeriesInstanceUID else set()
