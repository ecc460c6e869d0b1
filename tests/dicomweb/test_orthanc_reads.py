"""Orthanc's DICOMweb plug-in as a client that searches and retrieves from this node."""

from __future__ import annotations

import httpx
from pydicom import dcmread

from tests import peers
from tests.dicomweb.archive import serving
from tests.dicomweb.datasets import STUDY, image, pixels, volume


def test_orthanc_searches_and_takes_a_study_over_with_every_pixel(tmp_path):
    port = peers.free_port()
    datasets = [*(image(number) for number in (1, 2, 3)), volume()]
    with (
        serving(f"sqlite:///{tmp_path / 'node.sqlite3'}", tmp_path / "node", datasets) as archive,
        peers.orthanc(tmp_path / "orthanc", **peers.orthanc_dicomweb(archive.url, port)),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        asked = {"Uri": "/studies", "Arguments": {"PatientName": "DOE*"}}
        found = client.post("/dicom-web/servers/node/qido", json=asked).raise_for_status().json()
        assert STUDY in str(found[0])
        wanted = {"Resources": [{"Study": STUDY}], "Synchronous": True}
        client.post("/dicom-web/servers/node/retrieve", json=wanted).raise_for_status()
        files = [client.get(f"/instances/{each}/file").content for each in client.get("/instances").json()]
        assert len(files) == 4
        for file in files:
            path = tmp_path / "taken.dcm"
            path.write_bytes(file)
            ds = dcmread(path)
            first = ds.pixel_array[0] if "NumberOfFrames" in ds else ds.pixel_array
            assert (first == pixels(int(ds.InstanceNumber))).all()
