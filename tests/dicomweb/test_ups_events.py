"""UPS events: who is told what, in which order, and what waits for who is away (PS3.4 CC.2.3, CC.2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dicomnode.dicomweb import events
from dicomnode.dicomweb.app import Admission, WebSettings, create_app
from dicomnode.dicomweb.server import WebServer
from dicomnode.model.workitem import FILTERED_WORKLIST_UID, WORKLIST_UID
from dicomnode.store import subscriptions
from tests.dicomweb.worklist import Node, order, report, running, states
from tests.harness.heads import small_series
from tests.harness.nodes import wait_for
from tests.harness.toy_pipeline import write_toy_pipeline


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    write_toy_pipeline(folder)
    return folder


@pytest.fixture
def node(database_url: str, tmp_path: Path, pipelines: Path) -> Iterator[Node]:
    with running(database_url, tmp_path, pipelines) as node:
        yield node


def ordered(node: Node, uid: str, *, here: bool = True, **changes: object) -> None:
    """A work item of that UID, whose input is here, or is not."""
    datasets = small_series(1)
    if here:
        node.receive(*datasets)
    place = (str(datasets[0].StudyInstanceUID), str(datasets[0].SeriesInstanceUID))
    assert node.post(f"/workitems?{uid}", order(place, **changes)).status_code == 201


def subscribe(node: Node, uid: str, ae_title: str = "WATCHER", query: str = "") -> None:
    answer = node.post(f"/workitems/{uid}/subscribers/{ae_title}?{query}")
    assert answer.status_code == 201
    expected = f"{node.url.replace('http', 'ws')}/subscribers/{ae_title}"
    assert answer.headers["Content-Location"] == expected


def waiting(node: Node, ae_title: str = "WATCHER") -> int:
    with node.database.read() as tx:
        return len(subscriptions.pending(tx, ae_title, 100_000))


def test_a_subscriber_is_told_the_state_as_it_is_and_each_step_of_the_way_in_order(node):
    ordered(node, "1.2.3")
    subscribe(node, "1.2.3")
    with node.listen("WATCHER") as socket:
        node.tick()
        node.finish(node.claim())
        assert states(socket, "1.2.3", "COMPLETED") == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_a_state_report_says_the_state_and_the_readiness_and_why_it_was_cancelled(node):
    ordered(node, "1.2.3", here=False)
    with node.listen("WATCHER") as socket:
        subscribe(node, "1.2.3")
        uid, event, said = report(socket)
        assert (uid, event, said.ProcedureStepState, said.InputReadinessState) == (
            *("1.2.3", 1, "SCHEDULED", "READY"),
        )
        request = Dataset()
        request.ReasonForCancellation, request.ContactDisplayName = "not needed", "Dr. Doe"
        node.post("/workitems/1.2.3/cancelrequest", request.to_json_dict())
        _, event, said = report(socket)
        assert (event, said.RequestingAE, said.ReasonForCancellation, said.ContactDisplayName) == (
            *(2, "UNKNOWN", "not needed", "Dr. Doe"),
        )
        told = [report(socket) for _ in range(2)]
        assert [(event, said.ProcedureStepState) for _, event, said in told] == [
            (1, "IN PROGRESS"),
            (1, "CANCELED"),
        ]
        assert told[1][2].ReasonForCancellation == "not needed"
        assert told[1][2].ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"


def test_what_happens_to_a_job_without_a_step_is_progress(node):
    ordered(node, "1.2.3")
    subscribe(node, "1.2.3")
    node.tick()
    with node.listen("WATCHER") as socket:
        assert report(socket)[1] == 1
        _, event, said = report(socket)
        assert event == 3
        progress = said.ProcedureStepProgressInformationSequence[0]
        assert (progress.ProcedureStepProgress, progress.ProcedureStepProgressDescription) == (0, "queued")


def test_who_watches_the_worklist_is_told_of_what_there_is_and_of_what_comes(node):
    ordered(node, "1.2.3", here=False)
    subscribe(node, WORKLIST_UID)
    ordered(node, "1.2.4", here=False)
    with node.listen("WATCHER") as socket:
        assert [report(socket)[:2] for _ in range(3)] == [("1.2.3", 1), ("1.2.4", 1), ("1.2.4", 5)]


def test_a_job_that_a_route_makes_is_told_of_and_the_station_that_it_is_assigned_to(node):
    subscribe(node, WORKLIST_UID)
    node.receive(*small_series(1))
    node.route()
    with node.listen("WATCHER") as socket:
        _, event, said = report(socket)
        assert (event, said.ProcedureStepState) == (1, "SCHEDULED")
        _, event, said = report(socket)
        assert (event, said.ScheduledStationNameCodeSequence[0].CodeValue) == (5, "NODE")


@pytest.mark.parametrize(
    "query", ["filter=WorklistLabel=AI,ProcedureStepState=SCHEDULED", "WorklistLabel=AI"]
)
def test_a_filter_lets_through_what_matched_when_it_came_and_goes_on_with_it(node, query):
    subscribe(node, FILTERED_WORKLIST_UID, query=query)
    ordered(node, "1.2.3", here=False, WorklistLabel="other")
    ordered(node, "1.2.4")
    node.tick()
    node.claim()
    with node.listen("WATCHER") as socket:
        assert states(socket, "1.2.4", "IN PROGRESS") == ["SCHEDULED", "IN PROGRESS"]
    wait_until_told(node)


def test_who_watches_the_worklist_is_told_of_a_restart(node):
    subscribe(node, WORKLIST_UID)
    ordered(node, "1.2.3", here=False)
    subscribe(node, "1.2.3", "OTHER")
    before = waiting(node, "OTHER")
    node.engine.start()
    assert waiting(node, "OTHER") == before
    with node.listen("WATCHER") as socket:
        uid, event, said = [report(socket) for _ in range(3)][-1]
        assert (uid, event, said.SCPStatus) == (WORKLIST_UID, 4, "RESTARTED")
        assert said.SubscriptionListStatus == said.UnifiedProcedureStepListStatus == "WARM START"


def test_a_filter_that_says_nothing_or_cannot_be_matched_is_refused(node):
    for query in ("", "filter=PatientWeight=70", "Nonsense=1"):
        answer = node.post(f"/workitems/{FILTERED_WORKLIST_UID}/subscribers/WATCHER?{query}")
        assert answer.status_code == 400


def test_who_suspends_is_told_of_what_there_was_and_of_nothing_new(node):
    subscribe(node, WORKLIST_UID)
    ordered(node, "1.2.3", here=False)
    before = waiting(node)
    assert node.post(f"/workitems/{WORKLIST_UID}/subscribers/WATCHER/suspend").status_code == 200
    ordered(node, "1.2.4", here=False)
    assert waiting(node) == before
    node.post("/workitems/1.2.3/cancelrequest")
    assert waiting(node) == before + 3
    assert node.post("/workitems/1.2.3/subscribers/WATCHER/suspend").status_code == 400


def test_who_unsubscribes_is_told_no_more(node):
    subscribe(node, WORKLIST_UID)
    ordered(node, "1.2.3", here=False)
    ordered(node, "1.2.4", here=False)
    before = waiting(node)
    assert node.ask("DELETE", "/workitems/1.2.3/subscribers/WATCHER").status_code == 200
    node.post("/workitems/1.2.3/cancelrequest")
    assert waiting(node) == before
    assert node.ask("DELETE", f"/workitems/{WORKLIST_UID}/subscribers/WATCHER").status_code == 200
    node.post("/workitems/1.2.4/cancelrequest")
    assert waiting(node) == before


def test_a_subscription_that_there_is_not_is_found_neither_to_suspend_nor_to_end(node):
    worklist = f"/workitems/{WORKLIST_UID}/subscribers/WATCHER"
    ordered(node, "1.2.3", here=False)
    subscribe(node, WORKLIST_UID, "OTHER")
    for method, path in (
        ("POST", f"{worklist}/suspend"),
        ("POST", f"/workitems/{FILTERED_WORKLIST_UID}/subscribers/OTHER/suspend"),
        ("DELETE", worklist),
        ("DELETE", "/workitems/1.2.3/subscribers/WATCHER"),
    ):
        assert node.ask(method, path).status_code == 404, path
    subscribe(node, WORKLIST_UID)
    assert [node.post(f"{worklist}/suspend").status_code for _ in range(2)] == [200, 404]
    assert [node.ask("DELETE", worklist).status_code for _ in range(2)] == [200, 404]


def test_what_a_subscriber_missed_is_told_when_it_comes_back_once_and_in_order(node):
    ordered(node, "1.2.3")
    subscribe(node, "1.2.3")
    with node.listen("WATCHER") as socket:
        assert report(socket)[2].ProcedureStepState == "SCHEDULED"
    wait_until_told(node)
    node.tick()
    node.finish(node.claim())
    with node.listen("WATCHER") as socket:
        assert states(socket, "1.2.3", "COMPLETED") == ["IN PROGRESS", "COMPLETED"]
    wait_until_told(node)


def wait_until_told(node: Node) -> None:
    wait_for("the queue to be empty", lambda: waiting(node) == 0)


def test_the_queue_of_who_stays_away_keeps_the_newest(node):
    ordered(node, "1.2.3", here=False)
    for _ in range(5):
        subscribe(node, "1.2.3")
    with node.database.begin() as tx:
        ids = [number for number, _ in subscriptions.pending(tx, "WATCHER", 10)]
        assert subscriptions.trim(tx, 2) == 3
        assert [number for number, _ in subscriptions.pending(tx, "WATCHER", 10)] == ids[-2:]


def test_a_second_connection_takes_the_place_of_the_first(node):
    with node.listen("WATCHER") as first, node.listen("WATCHER") as second:
        with pytest.raises(ConnectionClosed) as closed:
            first.recv(timeout=30)
        assert closed.value.rcvd.code == 4000
        ordered(node, "1.2.3", here=False)
        subscribe(node, "1.2.3")
        assert report(second)[0] == "1.2.3"


def test_each_subscriber_has_a_queue_of_its_own(node):
    ordered(node, "1.2.3", here=False)
    subscribe(node, "1.2.3", "FIRST")
    subscribe(node, "1.2.3", "SECOND")
    with node.listen("FIRST") as socket:
        assert report(socket)[0] == "1.2.3"
    with node.listen("SECOND") as socket:
        assert report(socket)[0] == "1.2.3"


def test_a_node_that_stops_ends_the_connections_of_its_subscribers(tmp_path, pipelines):
    with running(f"sqlite:///{tmp_path / 'd.sqlite3'}", tmp_path, pipelines) as node:
        socket = node.listen("WATCHER").__enter__()
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=30)


def test_a_page_of_another_origin_may_not_listen(node):
    url = f"{node.url.replace('http', 'ws')}/subscribers/WATCHER"
    with pytest.raises(InvalidStatus) as refused, connect(url, origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    with connect(url, origin="https://viewer.example") as socket:
        assert socket.response.status_code == 101


def test_who_may_not_ask_may_not_listen():
    settings = WebSettings("/dicom-web", (Admission("*", ip_network("10.0.0.0/8")),))
    server = WebServer(create_app(settings, events.routes(SimpleNamespace(latest=lambda: 0))), "127.0.0.1", 0)
    server.start()
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://127.0.0.1:{server.port}/dicom-web/subscribers/WATCHER"),
    ):
        pass
    server.stop(5)
    assert refused.value.response.status_code == 403


def test_what_is_no_ae_title_is_refused(node):
    uid = str(generate_uid(prefix=None))
    assert node.post(f"/workitems/{uid}/subscribers/SEVENTEENLETTERS1").status_code == 400
    assert node.post(f"/workitems/{uid}/subscribers/A%5CB").status_code == 400
    with pytest.raises(InvalidStatus), node.listen("SEVENTEENLETTERS1"):
        pass
