"""The service class user for Query (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from dicomnode.dimse.information_model import FIND, Root
from dicomnode.dimse.presentation import NATIVE
from dicomnode.dimse.requestor import association, requesting
from dicomnode.dimse.status import PENDING, PENDING_WITH_WARNING, SUCCESS
from dicomnode.errors import AssociationFailed, ContextRefused, DimseError
from dicomnode.model.peer import Peer

_SYNTAXES = [str(syntax) for syntax in NATIVE[:2]]


def find_context(root: Root = Root.STUDY) -> PresentationContext:
    """What is proposed to a peer that is to be asked in that model."""
    return build_context(next(uid for uid, its_root in FIND.items() if its_root is root), _SYNTAXES)


def find(
    peer: Peer, calling_ae: str, identifier: Dataset, root: Root = Root.STUDY
) -> Generator[Dataset, None, None]:
    """The identifiers of the peer's pending responses, as they come; the association ends with them.

    Raises AssociationFailed where the peer cannot be asked, ContextRefused where it does not take part in
    C-FIND of this model, DimseError where it answers with a failure or with what cannot be read.
    """
    context = find_context(root)
    model = str(context.abstract_syntax)
    with association(peer, calling_ae, [context]) as assoc:
        if not assoc.accepted_contexts:
            raise ContextRefused(model, _SYNTAXES[0])
        with requesting():
            responses = assoc.send_c_find(identifier, model)
        for response, match in responses:
            status = response.get("Status")
            if status is None:
                raise AssociationFailed("the association was lost before the peer had answered")
            if status not in (PENDING, PENDING_WITH_WARNING):
                break
            if match is None:
                raise DimseError("the peer's answer to C-FIND cannot be read")
            yield match
        if status != SUCCESS:
            raise DimseError(f"the peer answered C-FIND with status 0x{int(status):04X}")


def listed_instances(
    peer: Peer, calling_ae: str, StudyInstanceUID: str, SeriesInstanceUID: str
) -> frozenset[str]:
    """The SOP Instance UIDs that the peer lists for one series; raises as `find` does."""
    identifier = _identifier(StudyInstanceUID, SeriesInstanceUID)
    with closing(find(peer, calling_ae, identifier)) as matches:
        return frozenset(uid for match in matches if (uid := _listed(match, SeriesInstanceUID)))


def _identifier(StudyInstanceUID: str, SeriesInstanceUID: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "IMAGE"
    ds.StudyInstanceUID = StudyInstanceUID
    ds.SeriesInstanceUID = SeriesInstanceUID
    ds.SOPInstanceUID = ""
    return ds


def _listed(match: Dataset, SeriesInstanceUID: str) -> str:
    """The instance of one response; "" where the peer answers with another series than the asked one."""
    series = str(match.get("SeriesInstanceUID") or SeriesInstanceUID)
    return str(match.get("SOPInstanceUID") or "") if series == SeriesInstanceUID else ""
