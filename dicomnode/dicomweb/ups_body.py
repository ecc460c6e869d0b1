"""The data set in the body of a UPS-RS request (PS3.18 8.6, 11.4.1.4)."""

from __future__ import annotations

import json
from typing import Any

from pydicom.dataset import Dataset
from starlette.requests import Request

from dicomnode.dicomweb.media import DICOM_JSON, DICOM_XML, parse_media_type
from dicomnode.dicomweb.native_model import from_xml
from dicomnode.errors import BadRequest, RequestTooLarge, UnsupportedMediaType
from dicomnode.imaging.headers import UNREADABLE

MAXIMUM_BODY = 4_000_000
"""Bytes of a work item, which is held in memory."""
_JSON = "application/json"


async def read_dataset(request: Request) -> Dataset:
    """The one data set of the body; an empty one where there is no body.

    Raises BadRequest, RequestTooLarge, UnsupportedMediaType.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAXIMUM_BODY:
            raise RequestTooLarge(MAXIMUM_BODY)
    if not body.strip():
        return Dataset()
    essence = parse_media_type(request.headers.get("content-type", _JSON)).essence
    if essence not in (DICOM_JSON, DICOM_XML, _JSON):
        raise UnsupportedMediaType(f"a body of {essence}")
    return _dataset(from_xml(bytes(body)) if essence == DICOM_XML else _model(bytes(body)))


def _model(text: bytes) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None
    if isinstance(found, list):
        if len(found) != 1:
            raise BadRequest("the body has another number of data sets than one")
        return found[0]
    return found


def _dataset(model: Any) -> Dataset:
    try:
        ds = Dataset.from_json(model, _no_bulk)
        for element in ds.iterall():  # what cannot be read is noticed only where it is looked at
            _ = element.value
    except (*UNREADABLE, AssertionError):
        raise BadRequest("the body is no data set in the DICOM JSON model") from None
    return ds


def _no_bulk(*_: str) -> bytes:
    raise BadRequest("a work item has no bulk data")
