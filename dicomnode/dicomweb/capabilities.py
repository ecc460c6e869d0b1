"""What is served, as the services themselves tell it: Retrieve Capabilities (PS3.18 8.9, H) and OpenAPI."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import quoteattr

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from dicomnode.dicomweb.media import choose
from dicomnode.dicomweb.openapi import names_in, openapi
from dicomnode.dicomweb.paths import base_url
from dicomnode.dicomweb.transactions import OPENAPI, TRANSACTIONS, WADL, Transaction

_OFFERS = (WADL, OPENAPI, "application/xml", "text/xml")
_NAMESPACE = "http://wadl.dev.java.net/2009/02"


def described(routes: Sequence[BaseRoute], version: str) -> list[BaseRoute]:
    """These routes, and those that tell of all of them. Raises KeyError where one is not described."""
    own = [
        Route("/", lambda request: _capabilities(request, served, version), methods=["OPTIONS"]),
        Route("/openapi.json", lambda request: _openapi(request, served, version), methods=["GET"]),
    ]
    served = {key: TRANSACTIONS[key] for route in [*own, *routes] for key in served_by(route)}
    return [*own, *routes]


def served_by(route: BaseRoute) -> list[tuple[str, str]]:
    """The methods and the path of a route as they are described; HEAD goes with GET."""
    if isinstance(route, WebSocketRoute):
        return [("GET", route.path)]
    if not isinstance(route, Route):
        raise TypeError(type(route).__name__)
    path = re.sub(r"{(\w+):\w+}", r"{\1}", route.path)
    return [(method, path) for method in sorted(route.methods or ()) if method != "HEAD"]


def _capabilities(request: Request, served: Mapping[tuple[str, str], Transaction], version: str) -> Response:
    media_type = choose(request.headers.get("accept"), _OFFERS)
    if media_type == OPENAPI:
        return _openapi(request, served, version)
    headers = {"Allow": "OPTIONS", "Vary": "Accept"}
    return Response(wadl(served, base_url(request)), headers=headers, media_type=media_type)


def _openapi(request: Request, served: Mapping[tuple[str, str], Transaction], version: str) -> Response:
    document = openapi(served, base_url(request), version)
    return Response(json.dumps(document, separators=(",", ":")), media_type=OPENAPI)


def wadl(served: Mapping[tuple[str, str], Transaction], base: str) -> str:
    """The Capabilities Description (PS3.18 H): a WADL document with a resource for each path."""
    resources = "".join(_resource(path, served) for path in sorted({path for _, path in served}))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<application xmlns="{_NAMESPACE}"><resources base={quoteattr(base)}>{resources}</resources>'
        "</application>"
    )


def _resource(path: str, served: Mapping[tuple[str, str], Transaction]) -> str:
    methods = "".join(_method(method, each) for (method, at), each in served.items() if at == path)
    names = "".join(_parameters(names_in(path), "template"))
    return f"<resource path={quoteattr(path.lstrip('/'))}>{names}{methods}</resource>"


def _method(method: str, transaction: Transaction) -> str:
    takes = "".join(f"<representation mediaType={quoteattr(each)}/>" for each in transaction.takes)
    gives = "".join(f"<representation mediaType={quoteattr(each)}/>" for each in transaction.gives)
    statuses = (" ".join(map(str, transaction.success)), " ".join(map(str, transaction.failures)))
    return (
        f'<method name="{method}" id="{transaction.id}">'
        f"<request>{''.join(_parameters(transaction.query, 'query'))}{takes}</request>"
        f'<response status="{statuses[0]}">{gives}</response><response status="{statuses[1]}"/>'
        "</method>"
    )


def _parameters(names: Sequence[str], style: str) -> list[str]:
    return [f'<param name="{name}" style="{style}"/>' for name in names]
