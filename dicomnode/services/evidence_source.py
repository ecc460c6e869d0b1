"""The archive that is asked what a series has: by DIMSE (PS3.4 C.4), or by DICOMweb (PS3.18 10.4, 10.6)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from uuid import uuid4

from pydicom.dataset import Dataset

from dicomnode.config import Config
from dicomnode.dicomweb.client import WebClient
from dicomnode.dicomweb.fetch import fetch as fetch_by_web
from dicomnode.dimse.fetch import get, move
from dicomnode.dimse.query import listed_instances
from dicomnode.errors import ContextRefused, WebError, WebUnreachable
from dicomnode.model.instance import AssociationFacts, Received
from dicomnode.model.peer import Peer
from dicomnode.services.destinations import web_client
from dicomnode.services.evidence import Archive
from dicomnode.services.ingest import Ingest

AT_ONCE = 200
"""Instances that one request names: an element of Explicit VR has less than 64 KiB (PS3.5 7.1.2)."""

OnInstance = Callable[[Received], object]


def archive_by_dimse(name: str, peer: Peer, own_ae: str, on_instance: OnInstance) -> Archive:
    """Asked by C-FIND; what is missing comes by C-GET, and what does not come so, by C-MOVE to ourselves."""

    def fetch(
        StudyInstanceUID: str,
        SeriesInstanceUID: str,
        missing: Collection[str],
        SOPClasses: Collection[str],
        stopped: Callable[[], bool],
    ) -> None:
        wanted = list(missing)
        for start in range(0, len(wanted), AT_ONCE):
            if stopped():
                return
            uids = wanted[start : start + AT_ONCE]
            identifier = _identifier(StudyInstanceUID, SeriesInstanceUID, uids)
            if not _got(peer, own_ae, identifier, SOPClasses, on_instance, stopped):
                move(peer, own_ae, identifier, own_ae, stopped=stopped)

    return Archive(name, partial(listed_instances, peer, own_ae), fetch)


def archive_by_web(name: str, client: WebClient, own_ae: str, store: Ingest) -> Archive:
    """Asked by QIDO-RS; what is missing comes by WADO-RS, each instance in a request of its own."""

    def fetch(
        StudyInstanceUID: str,
        SeriesInstanceUID: str,
        missing: Collection[str],
        _: Collection[str],
        stopped: Callable[[], bool],
    ) -> None:
        association = AssociationFacts(uuid4().hex, "", own_ae, "", asked=True)
        refused: WebError | None = None
        for uid in missing:
            if stopped():
                return
            try:
                fetch_by_web(client, store, association, StudyInstanceUID, SeriesInstanceUID, uid)
            except WebUnreachable:
                raise
            except WebError as error:
                refused = error
        if refused is not None:
            raise refused

    return Archive(name, client.listed_instances, fetch)


def archive_of(config: Config, name: str, ingest: Ingest, on_instance: OnInstance) -> Archive | None:
    """The destination or peer of that name; by DIMSE where it speaks both, and then `on_instance` keeps what
    comes.

    None where nobody is asked. Raises ConfigError.
    """
    own_ae = config.node.ae_title
    if (peer := config.asked(name)) is not None:
        return archive_by_dimse(name, peer, own_ae, on_instance)
    destination = config.destination_named(name)
    if destination is None or destination.web is None:
        return None
    return archive_by_web(name, web_client(destination, destination.web), own_ae, ingest)


def _got(
    peer: Peer,
    own_ae: str,
    identifier: Dataset,
    SOPClasses: Collection[str],
    on_instance: OnInstance,
    stopped: Callable[[], bool],
) -> bool:
    """True where nothing is left that C-MOVE could bring."""
    try:
        fetched = get(peer, own_ae, identifier, sorted(SOPClasses), on_instance, stopped=stopped)
    except ContextRefused:
        return False
    return fetched.cancelled or (fetched.completed > 0 and not fetched.failed)


def _identifier(StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUIDs: list[str]) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "IMAGE"
    ds.StudyInstanceUID = StudyInstanceUID
    ds.SeriesInstanceUID = SeriesInstanceUID
    ds.SOPInstanceUID = SOPInstanceUIDs
    return ds
