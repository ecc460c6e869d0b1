"""Orthanc's DICOMweb plug-in as a client that searches and retrieves from this node."""

from __future__ import annotations

import httpx
import pytest
from pydicom import dcmread

from dicomnode.demo.errors import DemoError
from dicomnode.demo.viewer.archive import find_orthanc, serving_archive
from tests.conftest import NOT_RUN_HERE
from tests.dicomweb.archive import serving
from tests.dicomweb.datasets import STUDY, image, pixels, volume


def test_orthanc_searches_and_takes_a_study_over_with_every_pixel(tmp_path):
    try:
        find_orthanc()
    except DemoError as error:
        pytest.skip(f"{NOT_RUN_HERE}{error}")
    datasets = [*(image(number) for number in (1, 2, 3)), volume()]
    with (
        serving(f"sqlite:///{tmp_path / 'node.sqlite3'}", tmp_path / "node", datasets) as archive,
        serving_archive(tmp_path / "orthanc") as orthanc,
        httpx.Client(base_url=f"http://127.0.0.1:{orthanc.http_port}", timeout=60) as client,
    ):
        client.put("/dicom-web/servers/node", json={"Url": f"{archive.url}/"}).raise_for_status()
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
