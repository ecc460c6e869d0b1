"""Every transaction that is served, described once: what it is for, what it takes and gives (PS3.18 H).

A route that is not described here cannot be served: see `dicomweb/capabilities.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dicomnode.dicomweb.media import DICOM, DICOM_JSON, DICOM_XML, OCTET_STREAM
from dicomnode.dicomweb.wado import LEVELS

WADL = "application/vnd.sun.wadl+xml"
OPENAPI = "application/json"


def parts_of(media_type: str) -> str:
    """multipart/related of parts of that type."""
    return f'multipart/related; type="{media_type}"'


@dataclass(frozen=True, slots=True)
class Transaction:
    """One method on one path; `clause` is of PS3.18, `query` the names of its query parameters."""

    id: str
    summary: str
    clause: str
    success: Mapping[int, str]
    failures: tuple[int, ...]
    gives: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    query: tuple[str, ...] = ()


PATH_PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "study": "Study Instance UID",
        "series": "Series Instance UID",
        "instance": "SOP Instance UID",
        "frames": "frame numbers from 1 on, with commas between",
        "way": "the way to an attribute: tags, and item numbers from 0 on in sequences",
        "workitem": "the UID of a work item, or one of the well-known UIDs of the worklist",
        "ae": "the AE title of a subscriber",
    }
)
QUERY_PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "match": "any attribute as its keyword or tag, with the value that it has to match",
        "includefield": "attributes to answer beside the usual ones, or all",
        "limit": "how many matches are answered at most",
        "offset": "how many matches are left out before the first",
        "fuzzymatching": "true: the beginnings of a person's names match",
        "window": "center,width,function",
        "viewport": "width,height, and the part of the source",
        "quality": "1 to 100, of JPEG",
        "requestType": "WADO",
        "studyUID": PATH_PARAMETERS["study"],
        "seriesUID": PATH_PARAMETERS["series"],
        "objectUID": PATH_PARAMETERS["instance"],
        "contentType": "the media types that are taken",
        "frameNumber": "a frame number from 1 on",
        "transferSyntax": "of application/dicom",
        "windowCenter": "the window's center, together with its width",
        "windowWidth": "the window's width, together with its center",
        "rows": "how high the picture may be, in pixels",
        "columns": "how wide the picture may be, in pixels",
        "region": "left,top,right,bottom of the part of the source, each from 0 to 1",
        "imageQuality": "1 to 100, of JPEG",
        "workitem": "the UID that the work item is to have",
        "transaction-uid": "the Transaction UID of the performer",
        "deletionlock": "true or false; nothing is deleted, so each lock holds",
        "filter": "key=value, with commas between",
    }
)
_MODELS = (DICOM_JSON, parts_of(DICOM_XML))
_PICTURES = ("image/jpeg", "image/png", "image/gif")
_DOCUMENTS = ("text/html", "text/plain", "application/pdf")
_CODE_STREAMS = (parts_of(OCTET_STREAM), OCTET_STREAM, "image/jp2", "image/jls", "image/jphc")
"""What every frame can be given as; where it is stored as JPEG or RLE, as that too."""
_WORKITEM = (DICOM_JSON, DICOM_XML)
_SEARCH = ("match", "includefield", "limit", "offset", "fuzzymatching")
_RENDERING = ("window", "viewport", "quality")
_READ = (400, 401, 403, 404, 406, 410, 412, 503)
_UPS = "/workitems/{workitem}"
_SUBSCRIBER = f"{_UPS}/subscribers/{{ae}}"
_SUBJECTS = ("Study", "Series", "Instance")
_FRAMES = f"{LEVELS[-1]}/frames/{{frames}}"


def _search(subject: str, clause: str = "10.6") -> Transaction:
    success = {200: "matches", 204: "no match"}
    return Transaction(
        f"SearchFor{subject}", "Search", clause, success, (400, 401, 403, 406, 503), _MODELS, (), _SEARCH
    )


def _store(id_: str) -> Transaction:
    success = {200: "all instances were stored", 202: "some were"}
    failures = (400, 401, 403, 406, 408, 409, 413, 415, 503)
    takes = (parts_of(DICOM), parts_of(DICOM_JSON), parts_of(DICOM_XML))
    return Transaction(id_, "Store instances", "10.5", success, failures, (DICOM_JSON, DICOM_XML), takes)


def _retrieve(id_: str, gives: tuple[str, ...], query: tuple[str, ...] = ()) -> Transaction:
    success = {200: "what was asked for", 304: "the client has it already"}
    return Transaction(f"Retrieve{id_}", "Retrieve", "10.4", success, _READ, gives, (), query)


def _of_studies() -> dict[tuple[str, str], Transaction]:
    found = {
        ("GET", "/studies"): _search("Studies"),
        ("GET", "/series"): _search("Series"),
        ("GET", "/instances"): _search("Instances"),
        ("GET", f"{LEVELS[0]}/series"): _search("StudySeries"),
        ("GET", f"{LEVELS[0]}/instances"): _search("StudyInstances"),
        ("GET", f"{LEVELS[1]}/instances"): _search("StudySeriesInstances"),
        ("POST", "/studies"): _store("StoreInstances"),
        ("POST", LEVELS[0]): _store("StoreStudyInstances"),
        ("GET", _FRAMES): _retrieve("Frames", _CODE_STREAMS),
        ("GET", f"{LEVELS[-1]}/bulkdata/{{way}}"): _retrieve(
            "BulkData", (OCTET_STREAM, parts_of(OCTET_STREAM))
        ),
        ("GET", "/wado"): Transaction(
            "RetrieveByQuery",
            "Retrieve one instance by a query",
            "9",
            {200: "the instance", 304: "the client has it already"},
            _READ,
            (*_PICTURES, DICOM),
            (),
            (
                *("requestType", "studyUID", "seriesUID", "objectUID", "contentType"),
                *("frameNumber", "transferSyntax", "windowCenter", "windowWidth", "rows", "columns"),
                *("region", "imageQuality"),
            ),
        ),
    }
    for path, subject in zip(LEVELS, _SUBJECTS, strict=True):
        found["GET", path] = _retrieve(subject, (parts_of(DICOM), DICOM))
        found["GET", f"{path}/bulkdata"] = _retrieve(f"{subject}BulkData", (parts_of(OCTET_STREAM),))
        found["GET", f"{path}/pixeldata"] = _retrieve(f"{subject}PixelData", _CODE_STREAMS)
        found["GET", f"{path}/metadata"] = _retrieve(f"{subject}Metadata", _MODELS)
    for path, subject in zip((*LEVELS, _FRAMES), (*_SUBJECTS, "Frames"), strict=True):
        for kind in ("rendered", "thumbnail"):
            gives = (*_PICTURES, *_DOCUMENTS) if (path, kind) == (LEVELS[-1], "rendered") else _PICTURES
            made = _retrieve(f"{subject}{kind.capitalize()}", gives, _RENDERING)
            found["GET", f"{path}/{kind}"] = made
    return found


def _order(
    id_: str, summary: str, clause: str, success: dict[int, str], query: tuple[str, ...] = ()
) -> Transaction:
    """A request about work items that brings a data set."""
    failures = (400, 401, 403, 404, 409, 413, 415, 503)
    return Transaction(id_, summary, clause, success, failures, (), _WORKITEM, query)


def _subscription(
    id_: str, summary: str, clause: str, success: dict[int, str], query: tuple[str, ...] = ()
) -> Transaction:
    return Transaction(id_, summary, clause, success, (400, 401, 403, 404, 503), (), (), query)


def _of_worklist() -> dict[tuple[str, str], Transaction]:
    created, subscribed = {201: "it is on the worklist"}, {201: "Content-Location is the WebSocket"}
    moved = {200: "it was in that state already"}
    return {
        ("GET", "/workitems"): _search("Workitems", "11.9"),
        ("GET", _UPS): Transaction(
            "RetrieveWorkitem", "Retrieve", "11.5", {200: "the work item"}, _READ, (*_MODELS, DICOM_XML)
        ),
        ("POST", "/workitems"): _order("CreateWorkitem", "Order a pipeline", "11.4", created, ("workitem",)),
        ("POST", _UPS): _order(
            "UpdateWorkitem", "Change what has not begun", "11.6", {200: "changed"}, ("transaction-uid",)
        ),
        ("PUT", f"{_UPS}/state"): _order(
            "ChangeWorkitemState", "Only the node moves its work items", "11.7", moved
        ),
        ("POST", f"{_UPS}/cancelrequest"): _order(
            "RequestWorkitemCancellation", "Cancel a work item and its jobs", "11.8", {202: "cancelled"}
        ),
        ("POST", _SUBSCRIBER): _subscription(
            "CreateSubscription", "Hear of work items", "11.10", subscribed, ("deletionlock", "filter")
        ),
        ("DELETE", _SUBSCRIBER): _subscription(
            "DeleteSubscription", "Hear no more", "11.11", {200: "there is no subscription"}
        ),
        ("POST", f"{_SUBSCRIBER}/suspend"): _subscription(
            "SuspendGlobalSubscription", "Hear of no new work item", "11.12", {200: "suspended"}
        ),
        ("GET", "/subscribers/{ae}"): Transaction(
            "OpenNotificationConnection",
            "Event reports by WebSocket",
            "8.10.4",
            {101: "a text frame with a DICOM JSON data set for each report"},
            (401, 403, 503),
        ),
    }


def _of_service() -> dict[tuple[str, str], Transaction]:
    def capabilities(id_: str, *gives: str) -> Transaction:
        success = {200: "all that is served"}
        return Transaction(id_, "Retrieve capabilities", "8.9", success, (401, 403, 406), gives)

    return {
        ("OPTIONS", "/"): capabilities("RetrieveCapabilities", WADL, OPENAPI),
        ("GET", "/openapi.json"): capabilities("RetrieveOpenAPI", OPENAPI),
    }


TRANSACTIONS: Mapping[tuple[str, str], Transaction] = MappingProxyType(
    _of_studies() | _of_worklist() | _of_service()
)
"""By method and path, relative to the base URL."""
