"""The user agent for WADO-RS: one instance is retrieved and kept as it comes in (PS3.18 10.4)."""

from __future__ import annotations

from dicomnode.dicomweb.client import WebClient
from dicomnode.dicomweb.media import DICOM, parse_media_type
from dicomnode.dicomweb.stow_body import InstanceStore, Kept, StowBody
from dicomnode.errors import RequestError, WebError
from dicomnode.model.instance import AssociationFacts

ACCEPT = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
"""As it is stored (PS3.18 8.7.3.5.2)."""


def fetch(
    client: WebClient,
    store: InstanceStore[Kept],
    association: AssociationFacts,
    StudyInstanceUID: str,
    SeriesInstanceUID: str,
    SOPInstanceUID: str,
) -> None:
    """Take one instance from the service; on return it is durable.

    Raises WebError where the service does not give it, or what it gives is refused here; StoreError.
    """
    path = f"/studies/{StudyInstanceUID}/series/{SeriesInstanceUID}/instances/{SOPInstanceUID}"
    with client.retrieving(path, ACCEPT) as (content_type, blocks):
        try:
            body = StowBody(store, association, parse_media_type(content_type), StudyInstanceUID)
            try:
                for block in blocks:
                    body.feed(block)
                outcomes = body.finish(b"")
            except BaseException:
                body.abandon()
                raise
        except RequestError as error:
            raise WebError(f"the peer's answer to WADO-RS cannot be read: {error}") from None
    refused = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
    if refused is not None:
        raise WebError(f"what the peer gave is refused here: {type(refused).__name__}")
