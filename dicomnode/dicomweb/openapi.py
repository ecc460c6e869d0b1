"""The OpenAPI document of the services (OpenAPI 3.1), made of the transactions that are served."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from dicomnode.dicomweb.media import DICOM_JSON
from dicomnode.dicomweb.transactions import (
    OPENAPI,
    PATH_PARAMETERS,
    QUERY_PARAMETERS,
    Transaction,
)

_MODEL = {
    "description": "a data set in the DICOM JSON model (PS3.18 F)",
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["vr"],
        "properties": {
            "vr": {"type": "string"},
            "Value": {"type": "array"},
            "InlineBinary": {"type": "string"},
            "BulkDataURI": {"type": "string"},
        },
    },
}
_NUMBERS = frozenset({"limit", "offset", "quality", "frameNumber"})
_SWITCHES = frozenset({"fuzzymatching", "deletionlock"})


def openapi(served: Mapping[tuple[str, str], Transaction], base_url: str, version: str) -> dict[str, Any]:
    """The document; `served` by method and path, `base_url` as the client reaches it."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), transaction in served.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, transaction)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dicomnode",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "DICOMweb: STOW-RS, QIDO-RS, WADO-RS, WADO-URI and UPS-RS (PS3.18)",
        },
        "servers": [{"url": base_url}],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {"Dataset": _MODEL}},
    }


def names_in(path: str) -> list[str]:
    """The names of the parameters in a path."""
    return re.findall(r"{(\w+)}", path)


def _operation(path: str, transaction: Transaction) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": transaction.id,
        "summary": transaction.summary,
        "description": f"PS3.18 {transaction.clause}",
        "parameters": [
            *(_path_parameter(name) for name in names_in(path)),
            *(_query_parameter(name) for name in transaction.query),
        ],
        "responses": {
            **{str(status): _success(status, transaction) for status in transaction.success},
            **{str(status): {"description": HTTPStatus(status).phrase} for status in transaction.failures},
        },
    }
    if transaction.takes:
        operation["requestBody"] = {"content": _content(transaction.takes)}
    return operation


def _success(status: int, transaction: Transaction) -> dict[str, Any]:
    said: dict[str, Any] = {"description": transaction.success[status]}
    if transaction.gives and status in (200, 202):
        said["content"] = _content(transaction.gives)
    return said


def _content(media_types: tuple[str, ...]) -> dict[str, Any]:
    return {media_type: _schema(media_type) for media_type in media_types}


def _schema(media_type: str) -> dict[str, Any]:
    if media_type == DICOM_JSON:
        return {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/Dataset"}}}
    if media_type == OPENAPI:
        return {"schema": {"type": "object"}}
    return {}


def _path_parameter(name: str) -> dict[str, Any]:
    schema = {"type": "string"}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": PATH_PARAMETERS[name],
        "schema": schema,
    }


def _query_parameter(name: str) -> dict[str, Any]:
    described = {"name": name, "in": "query", "description": QUERY_PARAMETERS[name]}
    if name == "match":
        free = {"type": "object", "additionalProperties": {"type": "string"}}
        return {**described, "style": "form", "explode": True, "schema": free}
    kind = "integer" if name in _NUMBERS else "boolean" if name in _SWITCHES else "string"
    return {**described, "schema": {"type": kind}}
