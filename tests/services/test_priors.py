"""A job waits for the earlier series of its patient, wherever they are, and never longer than its limit."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicomnode.config import Config
from dicomnode.dimse.sender import send
from dicomnode.errors import DimseError
from dicomnode.model.instance import Received
from dicomnode.model.job import AWAITS_PRIORS, PATIENT_CONFLICT, Job, JobState
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance
from dicomnode.pipeline.registry import Registry
from dicomnode.rules.rule import check_rule
from dicomnode.services import administration
from dicomnode.services.completion import order_completion
from dicomnode.services.frozen_input import frozen_input
from dicomnode.services.prior_source import prior_archive_of
from dicomnode.services.priors import PriorService
from dicomnode.services.routing import ONLY_ASKED_FOR, RouteTable, RoutingService
from dicomnode.store import catalog, jobs, leases, overview, priors
from dicomnode.store.completions import unrouted
from dicomnode.store.schema import prior as prior_table
from tests.dicomweb.archive import serving
from tests.dimse.archive import Archive as Node
from tests.dimse.archive import archive as running_node
from tests.dimse.test_fetch import PEERS
from tests.harness.heads import small_series, write_series
from tests.harness.toy_pipeline import PRIOR, with_prior, write_toy_pipeline
from tests.peers import free_port, orthanc, orthanc_dicomweb, wait_for

SLICES = 4
ACTOR = "test"


def series(**attributes: object) -> list[Dataset]:
    """A series of the same patient in a study of its own, on 10 January 2026 unless it says otherwise."""
    return small_series(SLICES, **attributes)


@dataclass
class Scene:
    """A node whose pipeline asks for a prior, and what is asked."""

    node: Node
    registry: Registry
    folder: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def write(self, instances: Sequence[Dataset]) -> list[OutgoingInstance]:
        """The instances as files that a sender takes."""
        paths = write_series(self.folder / f"sent-{next(self.numbers)}", list(instances))
        return [
            OutgoingInstance(
                str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ds.file_meta.TransferSyntaxUID), str(path)
            )
            for ds, path in zip(instances, paths, strict=True)
        ]

    def send(self, instances: Sequence[Dataset], to: Peer | None = None, calling_ae: str = "CT1") -> str:
        """Send them to the node, or to another one; the SeriesInstanceUID."""
        errors: list[DimseError | None] = []
        outgoing = self.write(instances)
        send(to or self.node.peer, calling_ae, outgoing, lambda _, error: errors.append(error))
        assert errors == [None] * len(instances)
        return str(instances[0].SeriesInstanceUID)

    def keep(self, instances: Sequence[Dataset]) -> str:
        """The node is sent a series that no route takes."""
        return self.receive(instances, "OTHER")

    def receive(self, instances: Sequence[Dataset], calling_ae: str = "CT1") -> str:
        """The node is sent a series, which is complete then, and routed."""
        uid = self.send(instances, calling_ae=calling_ae)
        order_completion(self.node.database, uid)
        self.route()
        return uid

    def route(self) -> None:
        config = Config.model_validate({"route": [{"name": "t1", "when": T1_NOW, "pipeline": "toy"}]})
        routes = RouteTable(config)
        RoutingService(self.node.database, self.node.objects, routes, self.registry).tick()

    def service(
        self, ask: Peer | str | None = None, limit_s: float = 3600.0, on_instance=None
    ) -> PriorService:
        """Seeks in the own catalog, and at a peer or a DICOMweb service."""
        told: dict[str, object] = {"node": {"ae_title": "NODE"}}
        if isinstance(ask, Peer):
            peer = {"ae_title": ask.ae_title, "host": ask.host, "port": ask.port, "response_timeout_s": 20.0}
            told |= {"peer": [peer], "priors": {"ask": ask.ae_title, "limit_s": limit_s}}
        elif ask is not None:
            web = {"name": "pacs", "web": {"url": ask}, "confirm": "none"}
            told |= {"destination": [web], "priors": {"ask": "pacs", "limit_s": limit_s}}
        else:
            told |= {"priors": {"limit_s": limit_s}}
        config, ingest = Config.model_validate(told), self.node.ingest
        archive = prior_archive_of(config, ingest, on_instance or ingest.store)
        return PriorService(self.node.database, self.node.objects, self.registry, config.priors, archive)

    def seek(self, service: PriorService) -> Job:
        """Tick until no job waits any more; the newest one."""

        def over() -> bool:
            service.give_up()
            self.due_now()
            service.tick()
            return self.job.reason_code != AWAITS_PRIORS

        wait_for(over, 30)
        return self.job

    def due_now(self) -> None:
        """What is tried again after a while is tried now."""
        with self.node.database.begin() as tx:
            due = prior_table.update().where(prior_table.c.job_id == self.job.id)
            tx.execute(due.values(not_before=prior_table.c.begun_at))

    @property
    def job(self) -> Job:
        with self.node.database.read() as tx:
            return jobs.find(tx)[0]

    @property
    def jobs(self) -> list[Job]:
        with self.node.database.read() as tx:
            return jobs.find(tx)

    @property
    def found(self) -> list[dict]:
        """What `jobs show` shows of the newest job's priors."""
        with self.node.database.read() as tx:
            return overview.job_history(tx, self.job.id)["priors"]

    @property
    def given(self) -> list[str | None]:
        return [each["SeriesInstanceUID"] for each in self.found]

    def notes(self) -> str:
        return " ".join(each["note"] or "" for each in self.found)


T1_NOW = 'series.modality == "MR" && association.calling_ae == "CT1"'


class OwnArchive:
    """A pynetdicom archive of our own making, which answers as a test tells it."""

    def __init__(self, find: Callable[[Event], Iterator[object]], give: Sequence[Dataset] = ()) -> None:
        ae = AE("PACS")
        for model in (
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelGet,
            StudyRootQueryRetrieveInformationModelMove,
        ):
            ae.add_supported_context(model)
        ae.add_supported_context(MRImageStorage, scu_role=True, scp_role=True)
        self._give, self._ended, self._threads = give, threading.Event(), list[threading.Thread]()
        handlers = [(evt.EVT_C_FIND, find), (evt.EVT_C_GET, self._get), (evt.EVT_C_MOVE, self._refuse)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        port = self._server.server_address[1]
        self.peer = Peer("PACS", "127.0.0.1", port, response_timeout_s=20.0)

    def _get(self, event: Event) -> Iterator[object]:
        wanted = {str(uid) for uid in event.identifier.SOPInstanceUID}
        given = [ds for ds in self._give if ds.SOPInstanceUID in wanted]
        yield len(given)
        for ds in given:
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, ds
        if not given:
            yield 0xA701, None

    @staticmethod
    def _refuse(_: Event) -> Iterator[object]:
        yield None, None

    def begin(self, call: Callable[[], object]) -> None:
        """Call it in a thread, while this archive does not answer."""
        self._threads.append(threading.Thread(target=call))
        self._threads[-1].start()

    def wait_for_end(self) -> None:
        """As an archive that does not answer."""
        self._ended.wait(20)

    def end(self) -> None:
        """Answer at last, and listen no more."""
        self._ended.set()
        for thread in self._threads:
            thread.join(20)
        self._server.shutdown()


@contextmanager
def archive(find: Callable[[Event], Iterator[object]], give: Sequence[Dataset] = ()) -> Iterator[OwnArchive]:
    """It runs while the block does."""
    own = OwnArchive(find, give)
    try:
        yield own
    finally:
        own.end()


def listing(instances: Sequence[Dataset], **told: str) -> Callable[[Event], Iterator[object]]:
    """Lists one series to whoever asks for anything; `told` is what the list says instead."""

    def answer(event: Event) -> Iterator[object]:
        keys = ("PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "SeriesInstanceUID", "Modality")
        each_level = {"STUDY": instances[:1], "SERIES": instances[:1], "IMAGE": instances}
        for ds in each_level[event.identifier.QueryRetrieveLevel]:
            match = Dataset()
            match.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
            for keyword in (*keys, "SeriesDescription", "SOPInstanceUID"):
                setattr(match, keyword, told.get(keyword, ds.get(keyword)))
            yield 0xFF00, match

    return answer


@pytest.fixture
def scene_of(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """A node whose toy pipeline has this `[[prior]]`."""

    @contextmanager
    def make(prior: str) -> Iterator[Scene]:
        with_prior(prior)(write_toy_pipeline(tmp_path / "pipelines"))
        registry = Registry.open(tmp_path / "pipelines", check_rule)
        with running_node(tmp_path, called_ae_titles=("NODE",)) as node:
            yield Scene(node, registry, tmp_path)

    made = []

    def start(more: str = "", prior: str = PRIOR) -> Scene:
        made.append(make(prior.format(more=more)))
        return made[-1].__enter__()

    yield start
    for each in made:
        each.__exit__(None, None, None)


@pytest.fixture
def scene(scene_of) -> Scene:
    return scene_of()


def test_the_last_series_that_suits_is_taken_from_the_own_catalog(scene):
    for date in ("20240601", "20250301", "20241201"):
        scene.keep(series(StudyDate=date))
    wanted = scene.keep(series(StudyDate="20250701"))
    for unsuited in (
        {"StudyDate": "20250801", "Modality": "CT"},
        {"StudyDate": "20250802", "SeriesDescription": "T2"},
        {"StudyDate": "20250803", "PatientID": "P2"},
        {"StudyDate": "20260110", "StudyTime": "101501"},
        {"StudyDate": "20270101"},
    ):
        scene.keep(series(**unsuited))
    now = series()
    scene.receive(now)
    assert scene.job.SeriesInstanceUID == now[0].SeriesInstanceUID
    assert (scene.job.state, scene.job.reason_code) == (JobState.HELD, AWAITS_PRIORS)
    assert scene.job.reason == "waiting for prior before"
    before = scene.job.input_digest
    job = scene.seek(scene.service())
    assert job.state is JobState.READY
    assert scene.given == [wanted]
    assert job.input_digest != before
    with scene.node.database.read() as tx:
        frozen = frozen_input(tx, job)
    assert frozen.digest == job.input_digest
    assert [len(refs) for refs in frozen.priors.values()] == [SLICES]


def test_a_series_that_is_older_than_the_manifest_wants_is_none(scene):
    scene.keep(series(StudyDate="20240109"))
    scene.receive(series())
    scene.seek(scene.service(limit_s=0.2))
    assert scene.given == [None]
    scene.keep(series(StudyDate="20240111"))
    scene.receive(series())
    scene.seek(scene.service(limit_s=0.2))
    assert scene.given != [None]


def test_as_many_are_given_as_are_asked_for_the_latest_first(scene_of):
    scene = scene_of("count = 2")
    first, second, third = (
        scene.keep(series(StudyDate=date)) for date in ("20250101", "20250201", "20250301")
    )
    scene.receive(series())
    scene.seek(scene.service())
    assert scene.given == [third, second]
    assert first not in scene.given


@PEERS
def test_a_prior_is_fetched_from_an_archive_and_starts_no_job_of_its_own(scene_of, tmp_path, archive_of):
    # DCMTK's archive knows no SeriesDescription.
    scene = scene_of(prior='[[prior]]\nname = "before"\nwhen = "prior.modality == series.modality"')
    with archive_of(tmp_path, scene.node.peer) as peer:
        for date in ("20240601", "20250301"):
            wanted = scene.send(series(StudyDate=date), peer)
        scene.send(series(StudyDate="20250302", Modality="CT"), peer)
        scene.send(series(StudyDate="20250303", PatientID="P2"), peer)
        scene.receive(series())
        job = scene.seek(scene.service(peer))
    assert (job.state, scene.given) == (JobState.READY, [wanted])
    scene.route()
    assert len(scene.jobs) == 1
    with scene.node.database.read() as tx:
        (study,) = overview.studies(tx, wanted)
        assert not list(unrouted(tx))
    (completion,) = study["series"][0]["completions"]
    assert completion["reason"] == "listed"
    assert completion["note"].endswith("lists these 4 instances, fetched as a prior")
    assert [(each["matched"], each["note"]) for each in completion["routes"]] == [(False, ONLY_ASKED_FOR)]


@contextmanager
def only_move(folder: Path, node: Peer) -> Iterator[Peer]:
    """An Orthanc that gives nothing by C-GET."""
    with orthanc(
        folder / "orthanc",
        DicomModalities={"node": ["NODE", node.host, node.port]},
        DicomAlwaysAllowMove=True,
        DicomAlwaysAllowGet=False,
    ) as peer:
        yield peer


def test_what_a_c_move_brings_is_known_by_its_originator(scene, tmp_path):
    with only_move(tmp_path, scene.node.peer) as peer:
        wanted = scene.send(series(StudyDate="20250301"), peer)
        scene.send(series(StudyDate="20250302", SeriesDescription="T2"), peer)
        scene.receive(series())
        scene.seek(scene.service(peer))
    assert scene.given == [wanted]
    scene.route()
    assert len(scene.jobs) == 1


def test_a_prior_is_fetched_from_a_service_that_speaks_dicomweb(scene, tmp_path):
    instances = series(StudyDate="20250301")
    others = series(StudyDate="20250401", PatientID="P10")
    with serving(f"sqlite:///{tmp_path / 'web.sqlite3'}", tmp_path / "web", [*instances, *others]) as web:
        scene.receive(series())
        scene.seek(scene.service(web.url))
    assert scene.given == [instances[0].SeriesInstanceUID]
    scene.route()
    assert len(scene.jobs) == 1


def test_a_prior_is_fetched_from_an_orthanc_that_speaks_dicomweb(scene, tmp_path):
    port = free_port()
    with orthanc(tmp_path / "orthanc", **orthanc_dicomweb("http://127.0.0.1", port)) as peer:
        wanted = scene.send(series(StudyDate="20250301"), peer)
        scene.send(series(StudyDate="20250401", PatientID="P10"), peer)
        scene.receive(series())
        scene.seek(scene.service(f"http://127.0.0.1:{port}/dicom-web"))
    assert scene.given == [wanted]


def test_an_archive_that_knows_of_none_holds_no_job_up(scene, tmp_path):
    with only_move(tmp_path, scene.node.peer) as peer:
        scene.receive(series())
        scene.service(peer).tick()
    assert scene.job.state is JobState.READY
    assert scene.found == [
        {
            "name": "before",
            "state": "absent",
            "note": "ORTHANC lists none",
            "place": None,
            "SeriesInstanceUID": None,
            "StudyDate": None,
        }
    ]


def test_a_job_says_what_it_waits_for_and_waits_no_longer_than_the_limit(scene):
    nobody = Peer("PACS", "127.0.0.1", free_port(), 1.0, 1.0)
    scene.receive(series())
    waiting = scene.service(nobody)
    waiting.tick()
    waiting.give_up()
    assert (scene.job.state, scene.job.reason) == (JobState.HELD, "waiting for prior before from PACS")
    assert scene.notes().startswith("PACS could not be asked")
    job = scene.seek(scene.service(nobody, limit_s=0.2))
    assert (job.state, job.reason) == (JobState.READY, None)
    assert scene.notes().startswith("after 0.2 s PACS could not be asked")


def test_an_archive_that_keeps_its_answer_to_itself_holds_a_job_up_to_the_limit(scene):
    def silent(_: Event) -> Iterator[object]:
        answered.wait_for_end()
        yield 0x0000, None

    with archive(find=silent) as answered:
        scene.receive(series())
        service = scene.service(answered.peer, limit_s=0.5)
        answered.begin(service.tick)
        wait_for(service.give_up, 20)
        assert scene.job.state is JobState.READY
    assert scene.notes() == "after 0.5 s none had come"


def test_when_the_limit_is_reached_an_older_one_that_is_here_has_to_do(scene):
    here = scene.keep(series(StudyDate="20250101"))
    later = series(StudyDate="20250601")
    with archive(find=listing(later)) as unable:
        scene.receive(series())
        service = scene.service(unable.peer)
        service.tick()
        assert scene.job.reason_code == AWAITS_PRIORS
        assert "PACS lists 4 instances, 4 of which are not here" in scene.notes()
        scene.seek(scene.service(unable.peer, limit_s=0.2))
    assert scene.given == [here]
    assert scene.notes().startswith("1 found; after 0.2 s PACS lists 4 instances")


def test_a_prior_that_arrives_by_itself_is_taken_and_is_routed_as_any_series(scene):
    service = scene.service()
    scene.receive(series())
    waiting = scene.job
    service.tick()
    assert scene.job.reason_code == AWAITS_PRIORS
    wanted = scene.receive(series(StudyDate="20250301"))
    with scene.node.database.begin() as tx:
        tx.execute(prior_table.update().values(not_before=prior_table.c.begun_at))
    service.tick()
    with scene.node.database.read() as tx:
        assert jobs.get(tx, waiting.id).state is JobState.READY
        (given,) = overview.job_history(tx, waiting.id)["priors"]
    assert given["SeriesInstanceUID"] == wanted
    assert len(scene.jobs) == 2


def test_a_series_that_was_fetched_as_a_prior_and_is_sent_later_is_routed(scene, tmp_path):
    instances = series(StudyDate="20250301")
    with only_move(tmp_path, scene.node.peer) as peer:
        scene.send(instances, peer)
        scene.receive(series())
        scene.seek(scene.service(peer))
        scene.route()
    first = scene.job
    scene.receive(instances)
    sent = scene.job
    assert (sent.SeriesInstanceUID, sent.generation) == (instances[0].SeriesInstanceUID, 2)
    assert sent.reason_code == AWAITS_PRIORS
    with scene.node.database.read() as tx:
        assert len(catalog.input_set(tx, sent.series_id, 2)) == SLICES
        assert frozen_input(tx, first).digest == first.input_digest


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "P2"},
        {"PatientBirthDate": "19700102"},
        {"PatientSex": "M"},
        {"IssuerOfPatientID": "OTHER"},
        {"PatientBirthDate": "", "IssuerOfPatientID": ""},
        {"PatientID": "P*"},
        {"PatientID": ""},
    ],
    ids=str,
)
def test_a_series_that_is_not_surely_of_the_same_patient_is_no_prior(scene, other):
    """Neither from the own catalog, nor from an archive, whatever that one lists it as."""
    scene.keep(series(**{"StudyDate": "20250301", "IssuerOfPatientID": "HOSPITAL", **other}))
    theirs = series(**{"StudyDate": "20250401", "IssuerOfPatientID": "HOSPITAL", **other})
    with archive(find=listing([*theirs], PatientID="P1"), give=theirs) as liar:
        scene.receive(series(IssuerOfPatientID="HOSPITAL"))
        job = scene.seek(scene.service(liar.peer))
    assert job.state is JobState.READY
    assert scene.given == [None]


def test_somebody_else_s_latest_series_under_the_same_id_hides_no_prior(scene, tmp_path):
    """An archive of two hospitals, which does not list whose ID it is."""
    with only_move(tmp_path, scene.node.peer) as peer:
        wanted = scene.send(series(StudyDate="20250301", IssuerOfPatientID="A"), peer)
        for date in ("20250401", "20250501"):
            scene.send(series(StudyDate=date, IssuerOfPatientID="B"), peer)
        scene.receive(series(IssuerOfPatientID="A"))
        scene.seek(scene.service(peer))
    assert scene.given == [wanted]


def test_a_date_that_is_none_holds_no_job_up(scene):
    for date in ("00010101", "99991231", "20250230", ""):
        scene.keep(series(StudyDate=date))
        scene.receive(series(StudyDate=date))
        scene.seek(scene.service(limit_s=0.1))
        assert scene.given == [None]


def test_an_id_without_its_issuer_is_believed_where_the_date_of_birth_is_the_same(scene):
    wanted = scene.keep(series(StudyDate="20250301"))
    scene.receive(series(IssuerOfPatientID="HOSPITAL"))
    scene.seek(scene.service())
    assert scene.given == [wanted]


def test_a_wildcard_as_a_patient_s_id_finds_nobody_else(scene, tmp_path):
    with only_move(tmp_path, scene.node.peer) as peer:
        scene.send(series(StudyDate="20250301"), peer)
        scene.receive(series(PatientID="P*"))
        scene.seek(scene.service(peer))
    assert scene.given == [None]


def test_a_study_that_names_two_patients_gives_no_prior_and_its_own_jobs_stay_held(scene):
    study = generate_uid()
    scene.keep(series(StudyDate="20250301", StudyInstanceUID=study))
    scene.send(series(StudyDate="20250301", StudyInstanceUID=study, PatientID="P2"))
    now = series()
    scene.receive(now)
    own = scene.job.id
    scene.send(series(StudyInstanceUID=now[0].StudyInstanceUID, PatientID="P2"))
    service = scene.service(limit_s=0.2)
    wait_for(lambda: service.give_up() and not service.give_up(), 20)
    with scene.node.database.read() as tx:
        held = jobs.get(tx, own)
        assert [each["state"] for each in overview.job_history(tx, own)["priors"]] == ["absent"]
    assert (held.state, held.reason) == (JobState.HELD, PATIENT_CONFLICT)


def test_what_was_fetched_before_a_stop_is_not_fetched_again(scene):
    brought: list[str] = []

    def keep(received: Received) -> object:
        brought.append(received.SOPInstanceUID)
        return scene.node.ingest.store(received)

    instances = series(StudyDate="20250301")
    with archive(find=listing(instances), give=instances) as giving:
        scene.receive(series())
        scene.service(giving.peer, on_instance=keep).tick(lambda: bool(brought))
        assert 0 < len(brought) < SLICES
        assert scene.job.reason_code == AWAITS_PRIORS
        scene.seek(scene.service(giving.peer, on_instance=keep))
    assert scene.given == [instances[0].SeriesInstanceUID]
    assert len(brought) == SLICES
    scene.route()
    assert len(scene.jobs) == 1


def test_an_administrator_lets_a_job_go_on_without_its_priors(scene):
    scene.receive(series())
    administration.release_job(scene.node.database, scene.job.id, ACTOR)
    assert scene.job.state is JobState.READY
    assert scene.notes() == "not waited for: an administrator released the job"
    assert scene.service().tick() == 0


def test_a_job_that_is_cancelled_while_it_waits_seeks_again_when_it_is_retried(scene):
    scene.receive(series())
    administration.cancel_job(scene.node.database, scene.job.id, "no", ACTOR)
    service = scene.service()
    assert (service.tick(), service.give_up()) == (0, 0)
    administration.retry_job(scene.node.database, scene.registry, scene.job.id, ACTOR)
    assert (scene.job.state, scene.job.reason_code) == (JobState.HELD, AWAITS_PRIORS)
    wanted = scene.keep(series(StudyDate="20250301"))
    scene.seek(service)
    assert scene.given == [wanted]


def test_a_job_that_was_refused_for_want_of_a_prior_seeks_it_when_it_is_retried(scene_of):
    scene = scene_of("required = true")
    scene.receive(series())
    scene.seek(scene.service(limit_s=0.2))
    with scene.node.database.begin() as tx:
        claimed = leases.claim(tx, "w", 30)
        assert claimed is not None
        leases.refuse(tx, claimed.lease, "PRIOR_MISSING", "there is none")
    administration.retry_job(scene.node.database, scene.registry, claimed.id, ACTOR)
    assert (scene.job.state, scene.job.reason_code) == (JobState.HELD, AWAITS_PRIORS)


def test_an_engine_that_starts_gives_each_search_its_time_anew(scene):
    scene.receive(series())
    with scene.node.database.begin() as tx:
        tx.exec_driver_sql("UPDATE prior SET begun_at = '2020-01-01 00:00:00.000000'")
    service = scene.service(limit_s=60.0)
    service.start()
    assert service.give_up() == 0
    with scene.node.database.read() as tx:
        assert priors.sought(tx, scene.job.id) == ["before"]
