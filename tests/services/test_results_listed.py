"""A Segmentation and its report are found and retrieved beside their source, by DICOMweb and by DIMSE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.dimse.find import find
from dicomnode.dimse.get import get
from dicomnode.dimse.move import move
from dicomnode.dimse.receiver import Receiver
from dicomnode.dimse.storage import storage
from dicomnode.model.job import Job
from dicomnode.model.peer import Peer
from dicomnode.model.profile import PROFILES
from dicomnode.model.result import EncodedResult
from dicomnode.results.encode import encode_results
from dicomnode.results.provenance import Provenance
from dicomnode.services.find import Finder
from dicomnode.services.ingest import Ingest
from dicomnode.services.outbox import keep
from dicomnode.services.retrieve import Retriever
from dicomnode.store import completions, leases
from tests.dicomweb.archive import Archive, serving
from tests.dimse.nodes import AE_TITLE, SETTINGS
from tests.peers import free_port, run
from tests.results.everything import manifest_of_everything, volume_case
from tests.store.builders import new_job

DICOM_JSON = "application/dicom+json"


@dataclass(frozen=True, slots=True)
class Made:
    """An archive with a series of seven slices, and what a job made of it in two forms."""

    archive: Archive
    job: Job
    seg: EncodedResult
    sr: EncodedResult

    @property
    def study(self) -> str:
        return self.seg.StudyInstanceUID

    def path(self, result: EncodedResult) -> str:
        return f"/studies/{self.study}/series/{result.SeriesInstanceUID}/instances/{result.SOPInstanceUID}"


@pytest.fixture
def made(database_url: str, tmp_path: Path) -> Iterator[Made]:
    findings, headers = volume_case()
    at = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
    origin = Provenance("node", "job", "sha256:ab", "Maker", "dicomnode", "0.1.0", "7", True, 9100, at)
    profiles = PROFILES["generic"], PROFILES["ohif3"]
    manifest = manifest_of_everything("SEG", "SR")
    forms = {each: encode_results(findings, headers, manifest, origin, each) for each in profiles}
    with serving(database_url, tmp_path) as archive:
        archive.store(*map(with_pixels, headers))
        with archive.database.begin() as tx:
            completions.complete_ordered(tx, str(headers[0].SeriesInstanceUID))
            new_job(tx, completions.unrouted(tx)[0].id)
            job = leases.claim(tx, "w1", 30)
            assert job is not None
            leases.finish(tx, job.lease, [each.stored for each in keep(archive.objects, forms)])
        yield Made(archive, job, *forms[profiles[0]])


def with_pixels(header: Dataset) -> Dataset:
    ds = Dataset()
    ds.update(header)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.PixelData = bytes(ds.Rows * ds.Columns * 2)
    ds["PixelData"].VR = "OW"
    return ds


def test_a_web_viewer_sees_the_results_beside_the_images(made: Made):
    client, seg = made.archive.client, dcmread(BytesIO(made.seg.data))
    study = Dataset.from_json(client.search_for_studies()[0])
    assert set(study.ModalitiesInStudy) == {"MR", "SEG", "SR"}
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (3, 9)
    found = [Dataset.from_json(model) for model in client.search_for_series(made.study)]
    assert [each.Modality for each in found] == ["MR", "SEG", "SR"]
    assert [each.SeriesInstanceUID for each in found[1:]] == [
        made.seg.SeriesInstanceUID,
        made.sr.SeriesInstanceUID,
    ]
    assert (found[1].SeriesDescription, found[1].SeriesNumber) == (seg.SeriesDescription, seg.SeriesNumber)
    (listed,) = client.search_for_instances(
        search_filters={"SOPInstanceUID": made.seg.SOPInstanceUID}, fields=["SegmentationType"]
    )
    assert Dataset.from_json(listed).NumberOfFrames == seg.NumberOfFrames
    assert Dataset.from_json(listed).SegmentationType == "BINARY"

    uids = (made.study, made.seg.SeriesInstanceUID, made.seg.SOPInstanceUID)
    assert (client.retrieve_instance(*uids).pixel_array == seg.pixel_array).all()
    assert len(client.retrieve_instance_frames(*uids, [1, 2])) == 2
    report = Dataset.from_json(
        client.retrieve_instance_metadata(made.study, made.sr.SeriesInstanceUID, made.sr.SOPInstanceUID)
    )
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert len(client.retrieve_study(made.study)) == 9
    rendered = made.archive.get(f"{made.path(made.sr)}/rendered", "text/html")
    assert (rendered.status_code, "Liver" in rendered.text) == (200, True)
    metadata = f"{made.path(made.seg)}/metadata"
    etag = made.archive.get(metadata, DICOM_JSON).headers["ETag"]
    assert made.archive.get(metadata, DICOM_JSON, If_None_Match=etag).status_code == 304


def test_a_workstation_finds_and_gets_the_results_and_has_them_moved(made: Made, tmp_path: Path):
    port, wanted = free_port(), {made.seg.SOPInstanceUID, made.sr.SOPInstanceUID}
    peers = {"WS": Peer("WS", "127.0.0.1", port)}
    stores = made.archive.database, made.archive.objects
    retriever, finder = Retriever(*stores), Finder(made.archive.database, AE_TITLE)
    services = [
        storage(Ingest(*stores).store),
        find(finder, finder.holds),
        move(retriever, peers.get, AE_TITLE),
        get(retriever),
    ]
    receiver = Receiver(SETTINGS, services)
    receiver.start()
    try:
        called = ("-aec", AE_TITLE, "127.0.0.1", receiver.port)
        study = ("-k", f"StudyInstanceUID={made.study}")
        asked = ("-k", "QueryRetrieveLevel=SERIES", *study, "-k", "Modality=SEG")
        answer = run("findscu", "-S", *asked, "-k", "SeriesInstanceUID", *called)
        assert (answer.stdout + answer.stderr).count(made.seg.SeriesInstanceUID) == 1
        for program, *options in (
            ("getscu", "-S"),
            ("movescu", "-S", "-aet", "WS", "-aem", "WS", "+P", port),
        ):
            folder = tmp_path / program
            folder.mkdir()
            run(program, *options, "-od", folder, "-k", "QueryRetrieveLevel=STUDY", *study, *called)
            arrived = {
                ds.SOPInstanceUID: ds for ds in (dcmread(path, force=True) for path in folder.iterdir())
            }
            assert len(arrived) == 9, program
            assert arrived.keys() > wanted
            seg = arrived[made.seg.SOPInstanceUID]
            assert seg.PixelData == dcmread(BytesIO(made.seg.data)).PixelData
    finally:
        receiver.stop(limit_s=0.5)
