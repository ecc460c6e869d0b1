"""A whole node is given work over HTTP: the pipeline runs, the subscriber hears of it, the results arrive."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from pydicom.dataset import Dataset
from websockets.sync.client import connect

from dicomnode.model.workitem import WORKLIST_UID
from tests.dicomweb.worklist import order, report, states
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, send_files, wait_for
from tests.harness.toy_pipeline import write_toy_pipeline

ROUTES = """
[[destination]]
name = "pacs"
dimse = { ae_title = "PACS", host = "127.0.0.1", port = 1 }
[[route]]
name = "ct"
when = 'series.modality == "CT"'
pipeline = "toy"
send_to = ["pacs"]
"""


def started(tmp_path: Path) -> tuple[RunningNode, str]:
    """A node, and the base URL of its services."""
    write_toy_pipeline(tmp_path / "pipelines")
    node = RunningNode(tmp_path / "node", pipelines=tmp_path / "pipelines", routes=ROUTES).start()
    listening = wait_for(
        "web.listening", lambda: [each for each in node.events() if each.get("event") == "web.listening"]
    )
    return node, f"http://127.0.0.1:{listening[-1]['port']}/dicom-web"


def item_of(url: str, uid: str) -> Dataset:
    return Dataset.from_json(httpx.get(f"{url}/workitems/{uid}", timeout=60).json()[0])


def destination() -> list[Dataset]:
    title, item = Dataset(), Dataset()
    title.DestinationAE = "PACS"
    item.DICOMStorageSequence = [title]
    return [item]


def test_an_order_runs_the_pipeline_and_is_completed_and_a_route_s_job_is_refused_and_cancelled(tmp_path):
    node, url = started(tmp_path)
    try:
        datasets = small_series()
        place = (str(datasets[0].StudyInstanceUID), str(datasets[0].SeriesInstanceUID))
        model = order(place, OutputDestinationSequence=destination())
        answer = httpx.post(
            f"{url}/workitems?1.2.3.4",
            content=json.dumps([model]),
            headers={"Content-Type": "application/dicom+json"},
            timeout=60,
        )
        assert answer.status_code == 201, answer.text
        channel = httpx.post(f"{url}/workitems/1.2.3.4/subscribers/WATCHER", timeout=60)
        send_files(node.peer, write_series(tmp_path / "mr", datasets))
        with connect(channel.headers["Content-Location"], open_timeout=60) as socket:
            assert states(socket, "1.2.3.4", "COMPLETED") == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
        performed = item_of(url, "1.2.3.4").UnifiedProcedureStepPerformedProcedureSequence[0]
        classes = {
            each.ReferencedSOPClassUID
            for output in performed.OutputInformationSequence
            for each in output.ReferencedSOPSequence
        }
        assert classes >= {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"}

        httpx.post(f"{url}/workitems/{WORKLIST_UID}/subscribers/LIST", timeout=60)
        send_files(node.peer, write_series(tmp_path / "ct", small_series(2, Modality="CT")))
        with connect(f"{url.replace('http', 'ws')}/subscribers/LIST", open_timeout=60) as socket:
            uid, event, said = report(socket, 60)
            assert (event, said.ProcedureStepState) == (1, "SCHEDULED")
            assert states(socket, uid, "CANCELED") == ["IN PROGRESS", "CANCELED"]
        told = item_of(url, uid).ProcedureStepProgressInformationSequence[0]
        assert told.ReasonForCancellation == "NOT_MR: The series is not MR."
        assert told.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110522"
    finally:
        node.kill()
