"""The edge of the web application: who is let in, how errors are answered, what is compressed, the end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dicomnode import errors
from dicomnode.config import load_config
from dicomnode.dicomweb.app import Admission, WebSettings, client_ae_title, create_app
from dicomnode.dicomweb.media import choose, parse_accept, parse_media_type
from dicomnode.dicomweb.paths import base_url
from dicomnode.dicomweb.server import WebServer
from dicomnode.dicomweb.status import http_status
from dicomnode.roles.web import web_settings

LOOPBACK = ip_network("127.0.0.0/8")


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve one handler at /it; returns its URL."""
    started: list[WebServer] = []

    def start(handler: Callable[..., object], *accept: Admission, **settings: object) -> str:
        made = WebSettings("/base", accept or (Admission("*", LOOPBACK),), **settings)
        server = WebServer(create_app(made, [Route("/it", handler, methods=["GET", "POST"])]), "127.0.0.1", 0)
        server.start()
        started.append(server)
        return f"http://127.0.0.1:{server.port}/base/it"

    yield start
    for server in started:
        server.stop(1)


def raising(error: Exception) -> Callable[[Request], Response]:
    def handler(_: Request) -> Response:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadRequest("x"), 400),
        (errors.QueryRefused("PatientID", "x"), 400),
        (errors.NotFound("study", "1.2"), 404),
        (errors.NotAcceptable(["a/b"]), 406),
        (errors.UnsupportedMediaType("a/b"), 415),
        (errors.StorageFull(1, 2), 503),
        (errors.DicomnodeError("x"), 500),
        (ValueError("Doe^Jane"), 500),
    ],
)
def test_an_error_has_the_status_of_the_table(serve, error, status):
    answer = httpx.get(serve(raising(error)))
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "Doe" not in answer.text


def test_every_error_of_ours_has_a_status():
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.DicomnodeError):
            assert 400 <= http_status(kind.__new__(kind)) <= 599


def test_only_the_accepted_addresses_are_let_in_and_the_first_that_suits_gives_the_name(serve):
    def handler(request: Request) -> Response:
        return Response(client_ae_title(request))

    assert httpx.get(serve(handler, Admission("CT1", ip_network("10.0.0.0/8")))).status_code == 403
    rules = (Admission("CT1", ip_network("127.0.0.1/32")), Admission("CT2", LOOPBACK))
    assert httpx.get(serve(handler, *rules)).text == "CT1"
    assert httpx.get(serve(handler)).text == ""


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("192.0.2.7", 200),
        ("LOCALHOST:8080", 200),
        ("node.localhost.", 200),
        ("ainode.example:8080", 200),
        ("AINODE.example.", 200),
        ("evil.example", 421),
        ("ainode.example.evil.example", 421),
        ("localhost.evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:80:80", 421),
        ("", 421),
    ],
)
def test_only_a_name_of_its_own_reaches_the_node_so_that_no_page_elsewhere_does(serve, host, status):
    url = serve(lambda _: Response("x"), host_names=frozenset({"ainode.example"}))
    assert httpx.get(url, headers={"Host": host}).status_code == status


def test_links_begin_as_the_client_wrote_or_as_whoever_stands_before_the_node_is_called(serve):
    def link(request: Request) -> Response:
        return Response(base_url(request))

    url = serve(link)
    assert httpx.get(url).text == url.removesuffix("/it")
    outside = "https://ainode.example/pacs/dicom-web"
    assert httpx.get(serve(link, public_url=outside)).text == outside


def test_the_name_by_which_the_world_calls_the_node_is_one_of_its_own(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(
        '[web]\nhost_names = ["other.example"]\npublic_url = "https://AInode.example/dicom-web/"\n'
    )
    settings = web_settings(load_config(file, {}), lambda _: None)
    assert settings.public_url == "https://AInode.example/dicom-web"
    assert {"ainode.example", "other.example"} < settings.host_names


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("http://ainode.example.evil.example", 403),
        ("http://127.0.0.1:1", 403),
        ("null", 403),
        ("http://[", 403),
        ("https://viewer.example", 200),
        ("https://ainode.example", 200),
    ],
)
def test_a_page_elsewhere_changes_nothing_through_a_users_browser(serve, origin, status):
    url = serve(
        lambda _: Response("x"),
        host_names=frozenset({"ainode.example"}),
        cors_origins=("https://viewer.example",),
    )
    assert httpx.post(url, headers={"Origin": origin}).status_code == status
    assert httpx.get(url, headers={"Origin": origin}).status_code == 200
    own = url.removesuffix("/base/it")
    assert httpx.post(url, headers={"Origin": own}).status_code == 200


def test_a_websocket_of_a_page_elsewhere_is_refused():
    async def accept(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    app = create_app(WebSettings("/base", (Admission("*", LOOPBACK),)), [WebSocketRoute("/it", accept)])
    server = WebServer(app, "127.0.0.1", 0)
    server.start()
    with connect(f"ws://127.0.0.1:{server.port}/base/it"):
        pass
    led_here = socket.create_connection(("127.0.0.1", server.port))
    with pytest.raises(InvalidStatus) as refused, connect("ws://evil.example/base/it", sock=led_here):
        pass
    assert refused.value.response.status_code == 421
    server.stop(1)


def test_json_is_compressed_and_pixel_data_are_not(serve):
    def json(_: Request) -> Response:
        return JSONResponse(["x"] * 1000)

    def pixels(_: Request) -> Response:
        return Response(bytes(5000), media_type="application/octet-stream")

    assert httpx.get(serve(json)).headers["content-encoding"] == "gzip"
    assert "content-encoding" not in httpx.get(serve(pixels)).headers
    for codings in ("gzip;q=0", "br, GZIP ; Q=0.000", "identity", "*"):
        answer = httpx.get(serve(json), headers={"Accept-Encoding": codings})
        assert "content-encoding" not in answer.headers
        assert answer.headers["vary"] == "Accept-Encoding"
    for codings in ("br, gzip;q=0.1", "GZip", "identity;q=0, gzip;q=1.0"):
        answer = httpx.get(serve(json), headers={"Accept-Encoding": codings})
        assert answer.headers["content-encoding"] == "gzip"


def test_only_pages_of_the_named_origins_may_ask_in_a_browser(serve):
    url = serve(lambda _: Response("x"), cors_origins=("https://viewer.example",))
    for origin, allowed in (("https://viewer.example", True), ("https://other.example", False)):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        assert ("access-control-allow-origin" in httpx.options(url, headers=asked).headers) == allowed
        assert (
            "access-control-allow-origin" in httpx.get(url, headers={"Origin": origin}).headers
        ) == allowed
    assert (
        "access-control-allow-origin" not in httpx.get(serve(lambda _: Response("x")), headers=asked).headers
    )


def test_a_page_may_read_what_a_range_of_bytes_is_of(serve):
    url = serve(lambda _: Response("x"), cors_origins=("https://viewer.example",))
    exposed = httpx.get(url, headers={"Origin": "https://viewer.example"}).headers[
        "access-control-expose-headers"
    ]
    assert {"Content-Range", "ETag", "Warning"} <= set(exposed.split(", "))


def test_what_may_be_asked_in_place_of_another_method_is_told_by_all_routes_of_the_path():
    routes = [
        Route("/it", lambda _: Response("x"), methods=["POST"]),
        Route("/it", lambda _: Response("x"), methods=["GET"]),
        Route("/other", lambda _: Response("x"), methods=["PUT"]),
    ]
    app = create_app(WebSettings("/base", (Admission("*", LOOPBACK),)), routes)
    server = WebServer(app, "127.0.0.1", 0)
    server.start()
    answer = httpx.delete(f"http://127.0.0.1:{server.port}/base/it")
    server.stop(1)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST")


def test_a_failing_disk_is_told_before_the_answer():
    told = threading.Event()
    routes = [Route("/it", raising(errors.DiskFailed("x")))]
    server = WebServer(
        create_app(WebSettings("/base", (Admission("*", LOOPBACK),)), routes, told.set), "127.0.0.1", 0
    )
    server.start()
    assert httpx.get(f"http://127.0.0.1:{server.port}/base/it").status_code == 503
    assert told.is_set()
    server.stop(1)


def test_a_stop_lets_requests_end_and_cuts_what_takes_too_long():
    reached, go_on = threading.Event(), threading.Event()

    def waits(_: Request) -> Response:
        reached.set()
        go_on.wait(20)
        return Response("done")

    async def hangs(_: Request) -> Response:
        reached.set()
        await asyncio.sleep(60)
        return Response("never")

    for handler, ends in ((waits, True), (hangs, False)):
        reached.clear()
        app = create_app(WebSettings("/base", (Admission("*", LOOPBACK),)), [Route("/it", handler)])
        server = WebServer(app, "127.0.0.1", 0)
        server.start()
        answers: list[object] = []

        def ask(port: int = server.port, answers: list[object] = answers) -> None:
            try:
                answers.append(httpx.get(f"http://127.0.0.1:{port}/base/it", timeout=30).status_code)
            except httpx.HTTPError:
                answers.append(None)

        asking = threading.Thread(target=ask)
        asking.start()
        assert reached.wait(20)
        stopping = threading.Thread(target=server.stop, args=(1.0,))
        stopping.start()
        go_on.set()
        stopping.join(20)
        asking.join(20)
        assert (answers == [200]) == ends
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", server.port), 1):  # noqa: PT011
            pass


def test_a_port_that_is_taken_is_an_error_at_the_start():
    app = create_app(WebSettings("/base", ()), [])
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        WebServer(app, "127.0.0.1", taken.getsockname()[1]).start()


@pytest.mark.parametrize(
    ("text", "essence", "parameters"),
    [
        ("Application/DICOM", "application/dicom", {}),
        (
            'multipart/related; Type="application/dicom"; boundary=b',
            "multipart/related",
            {"type": "application/dicom", "boundary": "b"},
        ),
        (
            "multipart/related;type=application/dicom;boundary=a/b=?",
            "multipart/related",
            {"type": "application/dicom", "boundary": "a/b=?"},
        ),
        (r'a/b; c="d\"e;f"', "a/b", {"c": 'd"e;f'}),
        ("a/b;", "a/b", {}),
    ],
)
def test_media_types_are_read_as_clients_write_them(text, essence, parameters):
    found = parse_media_type(text)
    assert (found.essence, found.parameters) == (essence, parameters)


@pytest.mark.parametrize("text", ["", "a", "a/b c", "a/b; c", 'a/b; c="', "/b", "a/b, c/d"])
def test_what_is_no_media_type_is_refused(text):
    with pytest.raises(errors.BadRequest):
        parse_media_type(text)


def test_the_most_wanted_that_there_is_is_chosen():
    offers = ("application/dicom+json", "application/dicom+xml")
    assert [each.essence for each in parse_accept("a/b;q=0.1, c/d, */*;q=0.5")] == ["c/d", "*/*", "a/b"]
    for accept, chosen in {
        None: 0,
        "": 0,
        "*/*": 0,
        "application/*": 0,
        "application/dicom+xml": 1,
        "application/dicom+json;q=0.5, application/dicom+xml": 1,
        "text/html, */*;q=0.1": 0,
        "application/dicom+json;q=0, */*": 1,
    }.items():
        assert choose(accept, offers) == offers[chosen]
    with pytest.raises(errors.NotAcceptable):
        choose("text/html, application/dicom+json;q=0", offers)
