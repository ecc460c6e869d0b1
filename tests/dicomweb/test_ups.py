"""UPS-RS: what each transaction answers (PS3.18 11), on both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicomnode.dicomweb.dicom_xml import to_xml
from dicomnode.dicomweb.native_model import from_xml
from dicomnode.model.workitem import WORKLIST_UID
from dicomnode.services.routing import RouteTable, RoutingService
from dicomnode.services.workitem_items import code, parameter, references
from dicomnode.store import jobs, leases, subscriptions
from tests.dicomweb.worklist import Node, order, running
from tests.harness.heads import small_series
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


def a_series() -> tuple[list[Dataset], tuple[str, str]]:
    """Two slices, and the UIDs of their study and series."""
    made = small_series(2)
    return made, (str(made[0].StudyInstanceUID), str(made[0].SeriesInstanceUID))


def uids() -> tuple[str, str]:
    return str(generate_uid(prefix=None)), str(generate_uid(prefix=None))


def state(model_state: str, TransactionUID: str | None = "1.2.3") -> dict:
    ds = Dataset()
    ds.ProcedureStepState = model_state
    if TransactionUID:
        ds.TransactionUID = TransactionUID
    return ds.to_json_dict()


def warning(answer) -> str:
    return answer.headers["Warning"].removeprefix("299 ").partition(": ")[2]


def test_an_order_is_created_runs_and_is_completed_with_its_outputs(node):
    datasets, place = a_series()
    node.receive(*datasets)
    answer = node.post("/workitems?1.2.3.4", order(place))
    assert (answer.status_code, answer.headers.get("Warning")) == (201, None)
    assert answer.headers["Location"] == f"{node.url}/workitems/1.2.3.4"
    assert node.item("1.2.3.4").ProcedureStepState == "SCHEDULED"
    node.tick()
    job = node.claim()
    assert (job.priority, job.send_to, job.route) == ("high", ("pacs",), "UPS-RS")
    running_item = node.item("1.2.3.4")
    assert running_item.ProcedureStepState == "IN PROGRESS"
    progress = running_item.ProcedureStepProgressInformationSequence[0]
    assert progress.ProcedureStepProgressDescription == "running, attempt 1"
    uid = node.finish(job)
    item = node.item("1.2.3.4")
    assert item.ProcedureStepState == "COMPLETED"
    performed = item.UnifiedProcedureStepPerformedProcedureSequence[0]
    assert performed.PerformedStationNameCodeSequence[0].CodeValue == "NODE"
    assert performed.PerformedWorkitemCodeSequence[0].CodeValue == "toy"
    assert performed.PerformedProcedureStepStartDateTime <= performed.PerformedProcedureStepEndDateTime
    output = performed.OutputInformationSequence[0]
    assert [each.ReferencedSOPInstanceUID for each in output.ReferencedSOPSequence] == [uid]
    assert output.DICOMRetrievalSequence[0].RetrieveAETitle == "PACS"
    assert item.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 100


def test_a_job_that_a_route_made_is_a_work_item_with_its_frozen_input(node):
    datasets, place = a_series()
    node.receive(*datasets)
    node.route()
    (found,) = node.search("ProcedureStepState=SCHEDULED")
    item = node.item(found.SOPInstanceUID)
    assert (item.ScheduledProcedureStepPriority, item.WorklistLabel) == ("MEDIUM", "NODE")
    assert item.ScheduledWorkitemCodeSequence[0].CodeValue == "toy"
    assert item.PatientName == "Doe^Jane"
    given = item.InputInformationSequence[0]
    assert (given.StudyInstanceUID, given.SeriesInstanceUID) == place
    named = {each.ReferencedSOPInstanceUID for each in given.ReferencedSOPSequence}
    assert named == {ds.SOPInstanceUID for ds in datasets}
    told = {each.ConceptNameCodeSequence[0].CodeValue for each in item.ScheduledProcessingParametersSequence}
    assert told == {"pipeline", "route"}


def test_an_order_waits_for_a_series_that_is_not_here_and_starts_when_it_is_complete(node):
    datasets, place = a_series()
    node.post("/workitems?1.2.3.4", order(place))
    node.receive(*datasets, complete=False)
    node.tick()
    item = node.item("1.2.3.4")
    words = item.ProcedureStepProgressInformationSequence[0].ProcedureStepProgressDescription
    assert (item.ProcedureStepState, words) == ("SCHEDULED", "waits for its input")
    node.receive(*datasets)
    node.tick()
    assert node.claim().SeriesInstanceUID == place[1]


def test_an_order_that_names_instances_waits_until_all_of_them_are_here(node):
    datasets, place = a_series()
    named = [(ds.SOPClassUID, ds.SOPInstanceUID) for ds in datasets]
    node.post("/workitems?1.2.3.4", order(InputInformationSequence=[references(*place, named)]))
    node.receive(datasets[0])
    node.tick()
    node.tick()
    assert jobs_of(node) == []
    node.receive(datasets[1])
    node.tick()
    assert node.claim().generation == 2


def test_an_order_whose_input_is_not_ready_or_whose_time_has_not_come_waits(node):
    datasets, place = a_series()
    node.receive(*datasets)
    node.post("/workitems?1.2.3.4", order(place, InputReadinessState="INCOMPLETE"))
    node.post("/workitems?1.2.3.5", order(place, ScheduledProcedureStepStartDateTime="29990101"))
    node.tick()
    assert jobs_of(node) == []
    change = Dataset()
    change.InputReadinessState = "READY"
    assert node.post("/workitems/1.2.3.4", change.to_json_dict()).status_code == 200
    node.tick()
    assert len(jobs_of(node)) == 1


def jobs_of(node: Node) -> list:
    with node.database.read() as tx:
        return jobs.find(tx)


def test_an_order_for_two_series_is_completed_when_both_are(node):
    first, place = a_series()
    second, other = a_series()
    node.receive(*first)
    node.receive(*second)
    node.post("/workitems?1.2.3.4", order(place, other))
    node.tick()
    node.finish(node.claim())
    item = node.item("1.2.3.4")
    assert item.ProcedureStepState == "IN PROGRESS"
    assert item.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 50
    node.finish(node.claim())
    item = node.item("1.2.3.4")
    assert item.ProcedureStepState == "COMPLETED"
    assert len(item.UnifiedProcedureStepPerformedProcedureSequence[0].OutputInformationSequence) == 2


def test_results_go_to_the_destinations_that_the_order_names(node):
    datasets, place = a_series()
    node.receive(*datasets)
    title, url = Dataset(), Dataset()
    title.DestinationAE, url.StorageURL = "PACS", "https://cloud.example/dicom-web/studies"
    by_dimse, by_web = Dataset(), Dataset()
    by_dimse.DICOMStorageSequence, by_web.STOWRSStorageSequence = [title], [url]
    node.post("/workitems?1.2.3.4", order(place, OutputDestinationSequence=[by_dimse, by_web]))
    node.tick()
    node.finish(node.claim())
    performed = node.item("1.2.3.4").UnifiedProcedureStepPerformedProcedureSequence[0]
    output = performed.OutputInformationSequence[0]
    assert output.DICOMRetrievalSequence[0].RetrieveAETitle == "PACS"
    place_of = output.WADORSRetrievalSequence[0].RetrieveURL
    assert place_of == f"https://cloud.example/dicom-web/studies/{place[0]}/series/{output.SeriesInstanceUID}"


def test_an_order_without_a_destination_that_no_route_gives_one_is_cancelled_with_the_reason(node):
    datasets = small_series(2, Modality="CT")
    node.receive(*datasets)
    place = (str(datasets[0].StudyInstanceUID), str(datasets[0].SeriesInstanceUID))
    node.post("/workitems?1.2.3.4", order(place))
    node.tick()
    item = node.item("1.2.3.4")
    assert item.ProcedureStepState == "CANCELED"
    assert "no route" in item.ProcedureStepProgressInformationSequence[0].ReasonForCancellation


def unknown_destination() -> list[Dataset]:
    title, item = Dataset(), Dataset()
    title.DestinationAE = "ELSEWHERE"
    item.DICOMStorageSequence = [title]
    return [item]


REFUSED = {
    "another state": ({"ProcedureStepState": "IN PROGRESS"}, "ProcedureStepState"),
    "a transaction": ({"TransactionUID": "1.2.3"}, "TransactionUID"),
    "no priority": ({"ScheduledProcedureStepPriority": None}, "ScheduledProcedureStepPriority"),
    "an unknown priority": ({"ScheduledProcedureStepPriority": "SOON"}, "ScheduledProcedureStepPriority"),
    "no label": ({"ProcedureStepLabel": None}, "ProcedureStepLabel"),
    "no start": ({"ScheduledProcedureStepStartDateTime": None}, "ScheduledProcedureStepStartDateTime"),
    "no readiness": ({"InputReadinessState": None}, "InputReadinessState"),
    "an unknown readiness": ({"InputReadinessState": "SOON"}, "InputReadinessState"),
    "no input": ({"InputInformationSequence": []}, "InputInformationSequence"),
    "no series": ({"InputInformationSequence": [Dataset()]}, "InputInformationSequence"),
    "another's work": (
        {"ScheduledWorkitemCodeSequence": [code("110005", "DCM", "Interpretation")]},
        "ScheduledWorkitemCodeSequence",
    ),
    "no such pipeline": (
        {"ScheduledWorkitemCodeSequence": [code("nothing", "99DICOMNODE", "Nothing")]},
        "ScheduledWorkitemCodeSequence",
    ),
    "an unknown parameter": (
        {"ScheduledProcessingParametersSequence": [parameter("threshold", "7")]},
        "ScheduledProcessingParametersSequence",
    ),
    "an unknown destination": (
        {"OutputDestinationSequence": unknown_destination()},
        "OutputDestinationSequence",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_order_that_cannot_be_taken_is_400_and_the_warning_names_the_attribute(sqlite_node, what):
    changes, keyword = REFUSED[what]
    answer = sqlite_node.post("/workitems?1.2.3.4", order(uids(), **changes))
    assert answer.status_code == 400
    assert warning(answer).startswith(f"{keyword} ")
    assert sqlite_node.ask("GET", "/workitems/1.2.3.4").status_code == 404


@pytest.fixture(scope="module")
def sqlite_node(tmp_path_factory, pipelines: Path) -> Iterator[Node]:
    """One node for what leaves nothing behind."""
    folder = tmp_path_factory.mktemp("node")
    with running(f"sqlite:///{folder / 'd.sqlite3'}", folder, pipelines) as node:
        yield node


def test_a_pipeline_may_be_named_by_a_processing_parameter_beside_another_code(node):
    answer = node.post(
        "/workitems?1.2.3.4",
        order(
            uids(),
            ScheduledWorkitemCodeSequence=[code("110004", "DCM", "Computer Aided Detection")],
            ScheduledProcessingParametersSequence=[parameter("pipeline", "toy")],
        ),
    )
    assert answer.status_code == 201


@pytest.mark.parametrize("query", ["1.2.3.4", "workitem=1.2.3.4", "AffectedSOPInstanceUID=1.2.3.4"])
def test_the_uid_may_stand_in_the_query_in_each_of_the_ways_that_editions_write_it(node, query):
    assert node.post(f"/workitems?{query}", order(uids())).headers["Location"].endswith("/workitems/1.2.3.4")


def test_the_uid_may_stand_in_the_data_set_or_nowhere_but_not_be_two(node):
    assert (
        node.post("/workitems", order(uids(), SOPInstanceUID="1.2.9")).headers["Location"].endswith("/1.2.9")
    )
    made = node.post("/workitems", order(uids())).headers["Location"].rpartition("/")[2]
    assert node.item(made).SOPInstanceUID == made
    assert node.post("/workitems?1.2.8", order(uids(), SOPInstanceUID="1.2.7")).status_code == 400
    assert node.post(f"/workitems?{WORKLIST_UID}", order(uids())).status_code == 400


def test_the_example_of_the_documentation_is_taken(node):
    text = (Path(__file__).parents[2] / "docs" / "ups.md").read_text()
    example = re.search(r"-d '(\[.*?\])'\n```", text, re.DOTALL)[1].replace("brain_tissue", "toy")
    assert node.post("/workitems?2.25.1", example.encode()).status_code == 201


def test_what_the_node_had_to_change_is_said(node):
    answer = node.post("/workitems?1.2.3.4", order(uids(), WorklistLabel=None))
    assert warning(answer) == "The Workitem was created with modifications."
    item = node.item("1.2.3.4")
    assert (item.WorklistLabel, item.ScheduledStationNameCodeSequence[0].CodeValue) == ("NODE", "NODE")


def test_one_uid_is_given_to_one_work_item_even_when_two_ask_at_once(node):
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: node.post("/workitems?1.2.3.4", order(uids())), range(2)))
    assert sorted(answer.status_code for answer in answers) == [201, 409]


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{", "application/dicom+json", 400),
        (b"[]", "application/dicom+json", 400),
        (b"3", "application/dicom+json", 400),
        (b'{"00100010": {"vr": "PN", "Value": [7]}}', "application/dicom+json", 400),
        (b'{"00420011": {"vr": "OB", "BulkDataURI": "http://h/"}}', "application/dicom+json", 400),
        (b"<x/>", "application/dicom+xml", 400),
        (b"P", "application/dicom", 415),
        (b"x" * 4_000_001, "application/dicom+json", 413),
    ],
)
def test_a_body_that_is_no_work_item_is_refused(sqlite_node, body, media_type, status):
    assert sqlite_node.post("/workitems", body, Content_Type=media_type).status_code == status


def test_a_work_item_is_created_and_retrieved_in_xml(node):
    body = to_xml(order(uids()))
    assert node.post("/workitems?1.2.3.4", body, Content_Type="application/dicom+xml").status_code == 201
    answer = node.ask("GET", "/workitems/1.2.3.4", Accept="application/dicom+xml")
    assert answer.headers["Content-Type"] == "application/dicom+xml"
    assert Dataset.from_json(from_xml(answer.content)).PatientName == "Doe^Jané"


def test_what_is_not_there_is_404_and_what_is_no_uid_400(sqlite_node):
    asked = [
        ("GET", "/workitems/{}", None),
        ("POST", "/workitems/{}", {}),
        ("PUT", "/workitems/{}/state", state("IN PROGRESS")),
        ("POST", "/workitems/{}/cancelrequest", None),
        ("POST", "/workitems/{}/subscribers/WATCHER", None),
        ("DELETE", "/workitems/{}/subscribers/WATCHER", None),
    ]
    for uid, status in (("1.2.404", 404), ("1.2..x", 400)):
        told = {sqlite_node.ask(method, path.format(uid), body).status_code for method, path, body in asked}
        assert told == {status}


def test_nobody_but_the_node_claims_its_work_items(node):
    datasets, place = a_series()
    node.receive(*datasets)
    node.post("/workitems?1.2.3.4", order(place))
    answer = node.ask("PUT", "/workitems/1.2.3.4/state", state("IN PROGRESS"))
    assert (answer.status_code, warning(answer)) == (
        409,
        "The submitted request is inconsistent with the state of the UPS Instance.",
    )
    node.tick()
    job = node.claim()
    path = "/workitems/1.2.3.4/state"
    for wanted in ("COMPLETED", "CANCELED"):
        answer = node.ask("PUT", path, state(wanted))
        assert (answer.status_code, warning(answer)) == (400, "The Transaction UID is incorrect.")
        answer = node.ask("PUT", path, state(wanted, None))
        assert (answer.status_code, warning(answer)) == (400, "The Transaction UID is missing.")
    assert node.ask("PUT", path, state("IN PROGRESS")).status_code == 409
    node.finish(job)
    answer = node.ask("PUT", path, state("COMPLETED"))
    assert (answer.status_code, warning(answer)) == (
        200,
        "The UPS is already in the requested state of COMPLETED.",
    )
    assert node.ask("PUT", path, state("CANCELED")).status_code == 409
    assert node.ask("PUT", path, state("SCHEDULED")).status_code == 400


def test_an_update_changes_what_has_not_begun(node):
    datasets, _ = a_series()
    node.receive(*datasets)
    node.route()
    uid = node.search()[0].SOPInstanceUID
    change = Dataset()
    change.ScheduledProcedureStepPriority, change.ProcedureStepLabel = "STAT", "First"
    assert node.post(f"/workitems/{uid}", change.to_json_dict()).status_code == 200
    item = node.item(uid)
    assert (item.ScheduledProcedureStepPriority, item.ProcedureStepLabel) == ("HIGH", "First")
    assert [found.SOPInstanceUID for found in node.search("ProcedureStepLabel=First")] == [uid]
    assert node.claim().priority == "high"
    for query, told in (("", "missing"), ("?1.2.3", "incorrect"), ("?transaction-uid=1.2.3", "incorrect")):
        answer = node.post(f"/workitems/{uid}{query}", change.to_json_dict())
        assert (answer.status_code, warning(answer)) == (400, f"The Transaction UID is {told}.")


def test_an_update_of_what_is_to_be_done_is_refused(node):
    node.post("/workitems?1.2.3.4", order(uids()))
    change = Dataset()
    change.ScheduledWorkitemCodeSequence = [code("other", "99DICOMNODE", "Other")]
    answer = node.post("/workitems/1.2.3.4", change.to_json_dict())
    assert (answer.status_code, warning(answer)) == (400, "ScheduledWorkitemCodeSequence cannot be changed.")


def test_a_cancel_request_ends_what_waits_and_what_runs(node):
    datasets, place = a_series()
    node.receive(*datasets)
    node.post("/workitems?1.2.3.4", order(uids()))
    node.post("/workitems?1.2.3.5", order(place))
    node.tick()
    job = node.claim()
    request = Dataset()
    request.ReasonForCancellation = "wrong \x1b[2Jpatient"
    for uid in ("1.2.3.4", "1.2.3.5"):
        answer = node.post(f"/workitems/{uid}/cancelrequest", request.to_json_dict())
        assert (answer.status_code, answer.headers.get("Warning")) == (202, None)
        item = node.item(uid)
        assert item.ProcedureStepState == "CANCELED"
        told = item.ProcedureStepProgressInformationSequence[0]
        assert told.ReasonForCancellation == "wrong [2Jpatient", "nothing steers a terminal"
        assert told.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
    with node.database.read() as tx:
        assert jobs.get(tx, job.id).state == "cancelled"
    answer = node.post("/workitems/1.2.3.4/cancelrequest")
    assert (answer.status_code, warning(answer)) == (
        202,
        "The UPS is already in the requested state of CANCELED.",
    )


def test_what_is_completed_is_not_cancelled(node):
    datasets, place = a_series()
    node.receive(*datasets)
    node.post("/workitems?1.2.3.4", order(place))
    node.tick()
    node.finish(node.claim())
    answer = node.post("/workitems/1.2.3.4/cancelrequest")
    assert (answer.status_code, warning(answer)) == (409, "The UPS is already COMPLETED.")


def test_of_two_cancel_requests_at_once_none_fails_and_the_job_is_cancelled_once(node):
    datasets, place = a_series()
    node.receive(*datasets)
    node.post("/workitems?1.2.3.4", order(place))
    node.tick()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: node.post("/workitems/1.2.3.4/cancelrequest"), range(4)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert 202 in {answer.status_code for answer in answers}
    node.tick()
    (job,) = jobs_of(node)
    assert (job.state, node.item("1.2.3.4").ProcedureStepState) == ("cancelled", "CANCELED")


def test_a_job_that_begins_anew_after_its_end_is_another_work_item(node):
    datasets, _ = a_series()
    node.receive(*datasets)
    node.route()
    job = node.claim()
    with node.database.begin() as tx:
        leases.give_up(tx, job.lease, "CRASHED", "the child died")
    node.tick()
    (dead,) = node.search()
    told = node.item(dead.SOPInstanceUID).ProcedureStepProgressInformationSequence[0]
    assert told.ReasonForCancellation == "CRASHED: the child died"
    assert told.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110501"
    with node.database.begin() as tx:
        jobs.retry(tx, job.id, "1", "d")
    node.tick()
    node.finish(node.claim())
    first, second = node.search()
    assert (first.ProcedureStepState, second.ProcedureStepState) == ("CANCELED", "COMPLETED")
    performed = node.item(first.SOPInstanceUID).UnifiedProcedureStepPerformedProcedureSequence[0]
    assert "OutputInformationSequence" not in performed or not performed.OutputInformationSequence


def test_what_happened_before_anybody_looked_is_told_all_the_same(node):
    datasets, _ = a_series()
    node.receive(*datasets)
    RoutingService(node.database, node.objects, RouteTable(node.config), node.registry).tick()
    with node.database.begin() as tx:
        job = leases.claim(tx, "worker", 60.0)
        leases.finish(tx, job.lease, [])
    assert node.search() == []
    node.tick()
    (found,) = node.search()
    assert found.ProcedureStepState == "COMPLETED"


def test_several_engines_tell_each_event_once_and_in_order(node):
    assert node.post(f"/workitems/{WORKLIST_UID}/subscribers/WATCHER").status_code == 201
    for _ in range(6):
        datasets, place = a_series()
        node.receive(*datasets[:1])
        assert node.post("/workitems", order(place)).status_code == 201

    def work(_: int) -> None:
        for _ in range(4):
            node.tick()
            with node.database.begin() as tx:
                job = leases.claim(tx, "worker", 60.0)
                if job is not None:
                    leases.finish(tx, job.lease, [])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    node.tick()
    assert {found.ProcedureStepState for found in node.search()} == {"COMPLETED"}
    with node.database.read() as tx:
        reports = [report for _, report in subscriptions.pending(tx, "WATCHER", 1000)]
        assert len(jobs.find(tx)) == 6
    for found in node.search():
        told = [
            report["00741000"]["Value"][0]
            for report in reports
            if report["00001000"]["Value"] == [found.SOPInstanceUID] and report["00001002"]["Value"] == [1]
        ]
        assert told == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_a_step_that_was_in_progress_never_goes_back(node):
    datasets, _ = a_series()
    node.receive(*datasets)
    node.route()
    job = node.claim()
    with node.database.begin() as tx:
        leases.hand_back(tx, job.lease)
    node.tick()
    assert node.search()[0].ProcedureStepState == "IN PROGRESS"


def test_a_search_matches_each_key_and_counts(node):
    places = [uids() for _ in range(3)]
    for number, place in enumerate(places):
        label = {"WorklistLabel": f"list {number}", "ScheduledProcedureStepPriority": "LOW"}
        assert node.post(f"/workitems?1.2.{number}", order(place, **label)).status_code == 201
    everything = ["1.2.0", "1.2.1", "1.2.2"]
    for query, expected in {
        "": everything,
        "limit=2": everything[:2],
        "limit=1&offset=1": ["1.2.1"],
        "WorklistLabel=list 1": ["1.2.1"],
        "WorklistLabel=list*": everything,
        "00741202=list 2": ["1.2.2"],
        "ScheduledProcedureStepPriority=LOW": everything,
        "ScheduledProcedureStepPriority=HIGH": [],
        "SOPInstanceUID=1.2.0,1.2.2": ["1.2.0", "1.2.2"],
        "InputReadinessState=READY&ProcedureStepState=SCHEDULED": everything,
        "PatientName=doe^jane": everything,
        "PatientID=P2": [],
        "ReferencedRequestSequence.AccessionNumber=A1": everything,
        "ScheduledWorkitemCodeSequence.CodeValue=toy": everything,
        f"InputInformationSequence.StudyInstanceUID={places[1][0]}": ["1.2.1"],
        "ScheduledProcedureStepStartDateTime=20260101": everything,
        "ScheduledProcedureStepStartDateTime=20260102-": [],
    }.items():
        assert [found.SOPInstanceUID for found in node.search(query)] == expected, query
    answer = node.ask("GET", "/workitems?limit=1")
    assert warning(answer) == "There are more work items."
    assert node.ask("GET", "/workitems?PatientID=P2").status_code == 204
    assert node.ask("GET", "/workitems?Nonsense=1").status_code == 400
    assert warning(node.ask("GET", "/workitems?PatientWeight=1")) == "PatientWeight is not searched for."


def test_a_search_answers_the_keys_of_the_table_and_what_is_asked_for_beside_them(node):
    node.post("/workitems?1.2.3.4", order(uids()))
    (found,) = node.search()
    assert "InputInformationSequence" not in found
    assert found.ScheduledWorkitemCodeSequence[0].CodeValue == "toy"
    assert "InputInformationSequence" in node.search("includefield=InputInformationSequence")[0]
    assert "InputInformationSequence" in node.search("includefield=all")[0]


def test_a_search_comes_in_xml_too(node):
    node.post("/workitems?1.2.3.4", order(uids()))
    answer = node.ask("GET", "/workitems", Accept='multipart/related; type="application/dicom+xml"')
    assert answer.headers["Content-Type"].startswith("multipart/related")
    assert b"1.2.3.4" in answer.content
