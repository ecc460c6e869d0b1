"""Work items by DIMSE: created, looked at, cancelled, and the same as by UPS-RS (PS3.4 CC)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association

from dicomnode.dimse import ups_user
from dicomnode.dimse.receiver import Receiver
from dicomnode.dimse.ups import REQUEST_CANCEL, ups_push
from dicomnode.errors import ContextRefused, DimseError
from dicomnode.model.peer import Peer
from dicomnode.model.workitem import UPS_PUSH
from dicomnode.services.workitems import WorkItems
from tests.dicomweb.worklist import Node, order, running
from tests.dimse.nodes import AE_TITLE, SETTINGS
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


@pytest.fixture
def peer(node: Node) -> Iterator[Peer]:
    """The node as those see it who order by DIMSE."""
    items = WorkItems(node.database, node.registry, node.config)
    receiver = Receiver(SETTINGS, [ups_push(items)])
    receiver.start()
    yield Peer(AE_TITLE, "127.0.0.1", receiver.port, response_timeout_s=20.0)
    receiver.stop(1)


@pytest.fixture
def assoc(peer: Peer) -> Iterator[Association]:
    """An association of a work item manager, which proposes UPS Push."""
    with opened(peer.port) as assoc:
        yield assoc


@contextmanager
def opened(port: int) -> Iterator[Association]:
    ae = AE("MANAGER")
    ae.add_requested_context(UPS_PUSH)
    assoc = ae.associate("127.0.0.1", port, ae_title=AE_TITLE)
    assert assoc.is_established
    try:
        yield assoc
    finally:
        assoc.release()


def here(node: Node) -> tuple[str, str]:
    """A complete series; the UIDs of its study and of itself."""
    datasets = small_series(2)
    node.receive(*datasets)
    return str(datasets[0].StudyInstanceUID), str(datasets[0].SeriesInstanceUID)


def created(assoc: Association, place: tuple[str, str], uid: str | None = None, **changes: object) -> int:
    status, _ = assoc.send_n_create(Dataset.from_json(order(place, **changes)), UPS_PUSH, uid)
    return int(status.Status)


def cancelled(assoc: Association, uid: str, action: int = REQUEST_CANCEL) -> int:
    request = Dataset()
    request.ReasonForCancellation = "not needed"
    status, _ = assoc.send_n_action(request, action, UPS_PUSH, uid)
    return int(status.Status)


def test_what_is_created_by_dimse_runs_and_is_the_same_by_http(node, assoc):
    uid = str(generate_uid(prefix=None))
    assert created(assoc, here(node), uid) == 0x0000
    node.tick()
    node.finish(node.claim())
    assert node.item(uid).ProcedureStepState == "COMPLETED"
    status, ds = assoc.send_n_get([], UPS_PUSH, uid)
    assert status.Status == 0x0000
    assert ds == node.item(uid)


def test_a_uid_that_is_left_to_the_node_is_told(node, assoc):
    responses: list[Dataset] = []
    assoc.bind(evt.EVT_DIMSE_RECV, lambda event: responses.append(event.message.command_set))
    assert created(assoc, here(node)) == 0x0000
    (item,) = node.search()
    assert responses[0].AffectedSOPInstanceUID == item.SOPInstanceUID


def test_what_the_node_adds_is_a_warning(node, assoc):
    assert created(assoc, here(node), "1.2.3", WorklistLabel=None) == 0xB300


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"ProcedureStepState": "IN PROGRESS"}, 0xC309),
        ({"ScheduledProcedureStepPriority": "SOON"}, 0x0106),
        ({"InputReadinessState": None}, 0x0120),
        ({"ScheduledWorkitemCodeSequence": None}, 0x0120),
    ],
)
def test_an_order_that_cannot_be_taken_is_refused_with_its_status(node, assoc, changes, status):
    assert created(assoc, here(node), "1.2.3", **changes) == status
    assert not node.search()


def test_a_uid_is_a_work_item_s_once(node, assoc):
    place = here(node)
    assert created(assoc, place, "1.2.3") == 0x0000
    assert created(assoc, place, "1.2.3") == 0x0111


def test_only_what_is_asked_for_is_answered(node, assoc):
    created(assoc, here(node), "1.2.3")
    status, ds = assoc.send_n_get([Tag("ProcedureStepState"), Tag("PatientID")], UPS_PUSH, "1.2.3")
    assert status.Status == 0x0000
    assert {each.keyword for each in ds} == {"ProcedureStepState", "PatientID"}
    status, ds = assoc.send_n_get([Tag("ProcedureStepState"), Tag("PatientWeight")], UPS_PUSH, "1.2.3")
    assert status.Status == 0x0001
    assert {each.keyword for each in ds} == {"ProcedureStepState"}


def test_a_work_item_is_cancelled_with_its_job_and_only_once(node, assoc):
    created(assoc, here(node), "1.2.3")
    node.tick()
    assert cancelled(assoc, "1.2.3") == 0x0000
    assert node.item("1.2.3").ProcedureStepState == "CANCELED"
    assert cancelled(assoc, "1.2.3") == 0xB304


def test_what_is_completed_is_not_cancelled(node, assoc):
    created(assoc, here(node), "1.2.3")
    node.tick()
    node.finish(node.claim())
    assert cancelled(assoc, "1.2.3") == 0xC311


def test_what_is_not_there_is_said_so(assoc):
    assert cancelled(assoc, "1.2.3") == 0xC307
    status, _ = assoc.send_n_get([], UPS_PUSH, "1.2.3")
    assert status.Status == 0xC307


def test_nobody_but_the_node_moves_its_work_items(node, assoc):
    created(assoc, here(node), "1.2.3")
    assert cancelled(assoc, "1.2.3", action=1) == 0x0123
    assert node.item("1.2.3").ProcedureStepState == "SCHEDULED"


def test_the_node_orders_looks_at_and_cancels_work_of_another_one(node, peer):
    uid = str(generate_uid(prefix=None))
    ds = Dataset.from_json(order(here(node)))
    assert ups_user.create(peer, "OTHER", uid, ds) is False
    assert ups_user.retrieve(peer, "OTHER", uid) == node.item(uid)
    assert ups_user.request_cancel(peer, "OTHER", uid, "not needed") is False
    assert node.item(uid).ProcedureStepState == "CANCELED"
    assert ups_user.request_cancel(peer, "OTHER", uid, "not needed") is True


def test_what_another_one_refuses_is_an_error_with_its_status(node, peer):
    ds = Dataset.from_json(order(here(node), InputReadinessState=None))
    with pytest.raises(DimseError, match="0x0120"):
        ups_user.create(peer, "OTHER", "1.2.3", ds)
    with pytest.raises(DimseError, match="0xC307"):
        ups_user.retrieve(peer, "OTHER", "1.2.3")


def test_one_that_keeps_no_worklist_is_an_error(start_node):
    with pytest.raises(ContextRefused):
        ups_user.retrieve(start_node().peer, "OTHER", "1.2.3")
