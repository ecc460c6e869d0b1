"""Data sets in the JSON or the XML model, whichever the client prefers (PS3.18 8.7.3.2, F, PS3.19 A.1)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from dicomnode.dicomweb.answers import Part, etag_of, multipart_of_known_size
from dicomnode.dicomweb.dicom_json import JSONDataset
from dicomnode.dicomweb.dicom_xml import to_xml
from dicomnode.dicomweb.media import DICOM_XML
from dicomnode.dicomweb.negotiation import choose_model

NO_CACHE = {"Cache-Control": "no-cache"}
"""What was found may be another thing a moment later."""


def models_answer(request: Request, models: Sequence[JSONDataset]) -> Response:
    """One JSON document, or a part of XML for each model."""
    media_type = choose_model(request)
    if media_type != DICOM_XML:
        body = json.dumps(models, ensure_ascii=False, separators=(",", ":")).encode()
        return Response(body, headers=NO_CACHE, media_type=media_type)
    parts = [Part(DICOM_XML, to_xml(model)) for model in models]
    answer = multipart_of_known_size(DICOM_XML, parts, etag_of(*(part.content for part in parts)))
    answer.headers.update(NO_CACHE)
    return answer
