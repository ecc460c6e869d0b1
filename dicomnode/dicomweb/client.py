"""The user agent for STOW-RS, QIDO-RS and WADO-RS (PS3.18 10.4 to 10.6)."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import structlog

from dicomnode.errors import WebError, WebRefused, WebStoreRefused, WebUnreachable
from dicomnode.model.result import OutgoingInstance

log = structlog.get_logger()

OnOutcome = Callable[[OutgoingInstance, WebError | None], None]

JSON = "application/dicom+json"
PAGE = 1000
ANSWER_LIMIT = 64 * 2**20
"""Bytes of an answer that are read; more is no answer to what is asked here."""
_BLOCK = 1 << 18
_SOP_INSTANCE, _SERIES = "00080018", "0020000E"
_FAILED, _STORED = "00081198", "00081199"
_REFERENCED_INSTANCE, _FAILURE_REASON = "00081155", "00081197"


def http_client(connect_timeout_s: float, response_timeout_s: float, ca_file: str = "") -> httpx.Client:
    """A client that trusts `ca_file`, or else what this machine trusts; no proxy, no redirect is followed."""
    return httpx.Client(
        verify=ssl.create_default_context(cafile=ca_file or None),
        timeout=httpx.Timeout(response_timeout_s, connect=connect_timeout_s),
        trust_env=False,
    )


class WebClient:
    """Speaks to one DICOMweb service whose base URL is `url`."""

    def __init__(self, url: str, client: httpx.Client, auth: httpx.Auth | None = None) -> None:
        self._url, self._client, self._auth = url, client, auth

    def send(
        self, instances: Sequence[OutgoingInstance], on_outcome: OnOutcome, stopped: Callable[[], bool]
    ) -> None:
        """Store instances, each in a request of its own: so a status is about one instance.

        `on_outcome` is called once for each: None where the service says that it stored it, else a WebError.
        Once it cannot be reached, the others are not tried. Once `stopped()`, the others have no outcome.
        """
        lost: WebUnreachable | None = None
        for instance in instances:
            if stopped():
                return
            outcome: WebError | None = lost
            if lost is None:
                try:
                    outcome = self._store(instance)
                except WebUnreachable as error:
                    outcome = lost = error
                except WebError as error:
                    outcome = error
                except OSError as error:
                    outcome = WebError(f"the file cannot be sent: {type(error).__name__}")
            on_outcome(instance, outcome)

    def listed_instances(self, StudyInstanceUID: str, SeriesInstanceUID: str) -> frozenset[str]:
        """The SOP Instance UIDs that the service lists for one series. Raises WebError."""
        path = f"/studies/{StudyInstanceUID}/series/{SeriesInstanceUID}/instances"
        found = self.search(path, {"includefield": _SOP_INSTANCE}, _SOP_INSTANCE)
        return frozenset(
            uid for uid, match in found.items() if _value(match, _SERIES) in ("", SeriesInstanceUID)
        )

    def search(self, path: str, parameters: Mapping[str, str], unique: str) -> dict[str, Any]:
        """The matches of a search, in the DICOM JSON model, each by the value of its unique key (a tag).

        Raises WebError.
        """
        found: dict[str, Any] = {}
        offset = 0
        while True:
            page = self._page(self._url + path, {**parameters, "limit": PAGE, "offset": offset})
            listed = {uid: match for match in page if (uid := _value(match, unique))}
            # A service may give fewer than were asked for, or not know of offsets: only what is new counts.
            if listed.keys() <= found.keys():
                return found
            found |= listed
            offset += len(page)

    @contextmanager
    def retrieving(self, path: str, accept: str) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The media type of what is at `path`, and its bytes as they come. Raises WebError."""
        request = self._client.build_request("GET", self._url + path, headers={"Accept": accept})
        try:
            response = self._client.send(request, auth=self._auth, stream=True)
            try:
                if response.status_code != httpx.codes.OK:
                    raise WebRefused(response.status_code)
                yield response.headers.get("Content-Type", ""), response.iter_bytes(_BLOCK)
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise WebUnreachable(f"no answer: {type(error).__name__}") from None

    def _page(self, url: str, parameters: Mapping[str, str | int]) -> list[Any]:
        request = self._client.build_request("GET", url, params=parameters, headers={"Accept": JSON})
        status, body = self._answer(request)
        if status == httpx.codes.NO_CONTENT:
            return []
        if status != httpx.codes.OK:
            raise WebRefused(status)
        page = _parsed(body)
        if not isinstance(page, list):
            raise WebError("the peer's answer to QIDO-RS cannot be read")
        return page

    def _store(self, instance: OutgoingInstance) -> WebError | None:
        part = _Part(instance)
        request = self._client.build_request(
            "POST", f"{self._url}/studies", headers={**part.headers, "Accept": JSON}
        )
        request.stream = part
        status, body = self._answer(request)
        answer = _parsed(body)
        answer = answer[0] if isinstance(answer, list) and answer else answer
        failures = {_value(item, _REFERENCED_INSTANCE): item for item in _items(answer, _FAILED)}
        if instance.SOPInstanceUID in failures:
            reason = _value(failures[instance.SOPInstanceUID], _FAILURE_REASON)
            return WebStoreRefused(int(reason) if reason.isdecimal() else None)
        if instance.SOPInstanceUID in {
            _value(item, _REFERENCED_INSTANCE) for item in _items(answer, _STORED)
        }:
            return None
        if status not in (httpx.codes.OK, httpx.codes.ACCEPTED):
            return WebRefused(status)
        # Some answer success and list what they stored: nothing.
        lists_others = isinstance(answer, dict) and _STORED in answer
        return WebStoreRefused(None) if lists_others else None

    def _answer(self, request: httpx.Request) -> tuple[int, bytes]:
        """Status and body; raises WebUnreachable where none comes, WebError where it is endless."""
        try:
            response = self._client.send(request, auth=self._auth, stream=True)
            try:
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > ANSWER_LIMIT:
                        raise WebError("the peer's answer is longer than can be meant")
            finally:
                response.close()
        except httpx.HTTPError as error:
            # Its text could name the URL, and that a UID.
            raise WebUnreachable(f"no answer: {type(error).__name__}") from None
        return response.status_code, bytes(body)


class _Part(httpx.SyncByteStream):
    """One file as the only part of a multipart/related body; it can be read again after a 401."""

    def __init__(self, instance: OutgoingInstance) -> None:
        self._path = Path(instance.path)
        boundary = uuid4().hex
        # The file itself says its transfer syntax; where the part says it too, Orthanc stores nothing.
        self._head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(self._head) + self._path.stat().st_size + len(self._tail)),
        }

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
        yield self._tail


def _parsed(body: bytes) -> Any:
    """The body as JSON; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _items(ds: Any, tag: str) -> list[Any]:
    """The items of a sequence in the DICOM JSON model (PS3.18 F.2); none where it is not there."""
    element = ds.get(tag) if isinstance(ds, dict) else None
    items = element.get("Value") if isinstance(element, dict) else None
    return items if isinstance(items, list) else []


def _value(ds: Any, tag: str) -> str:
    """The first value of an element as text; empty where there is none."""
    return str(next(iter(_items(ds, tag)), ""))
