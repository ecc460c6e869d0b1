"""OHIF reads a study straight from dicomnode: no archive stands between."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pydicom
import pytest

from dicomnode.demo.viewer.ohif import app_config
from dicomnode.demo.viewer.server import serving_viewer
from dicomnode.model.profile import PROFILES
from tests.dicomweb.archive import serving
from tests.viewer.conftest import KEPT
from tests.viewer.ohif import Ohif
from tests.viewer.study import COLORS, largest_slice, make_study
from tests.viewer.test_ohif import EDGE_PX, SPACINGS, box_around, expected_corners, wrong_pixels


@pytest.fixture(scope="module")
def study(manifest, provenance, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "own"
    return make_study(folder, manifest, provenance, "axial", SPACINGS["axial"], PROFILES["ohif3"])


@pytest.fixture(scope="module")
def own_origin(pages, study, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("node")
    datasets = [pydicom.dcmread(each.path) for each in study.instances]
    with serving(f"sqlite:///{folder / 'node.sqlite3'}", folder, datasets) as archive:
        port = int(archive.url.rpartition(":")[2].partition("/")[0])
        with serving_viewer(pages, app_config(), port) as origin:
            yield origin


@pytest.fixture
def ohif(browser, own_origin, study) -> Iterator[Ohif]:
    with Ohif.opened(browser, own_origin, study.StudyInstanceUID, 3, KEPT) as opened:
        yield opened


def test_the_study_opens_and_its_segments_lie_where_they_are(ohif, study):
    assert {modality for modality, _ in ohif.listed()} == {"SEG", "SR"}
    ohif.show_segmentation()
    for segment, color in zip(study.segments, COLORS, strict=True):
        assert ohif.segments()[segment.title] == pytest.approx(color, abs=3)
    at = ohif.slices()
    for segment in study.segments:
        index = largest_slice(study.labels, segment.label)
        ohif.go_to(at[study.slices[index]])
        assert wrong_pixels(ohif, study, index) == 0, f"slice {index}"
    ohif.keep_picture("seg-own-server")
    assert ohif.trouble == []


def test_the_report_opens_with_its_values_on_the_right_slice(ohif, study):
    at = ohif.slices()
    ohif.show_report()
    segment = study.segments[0]
    index = largest_slice(study.labels, segment.label)
    ohif.wait_for_text(at[study.slices[index]], f"Volume: {study.volume_ml(segment):.2f} ml")
    corners = expected_corners(ohif, study, segment.label)
    np.testing.assert_allclose(box_around(ohif.outline()), box_around(corners), atol=EDGE_PX)
    assert ohif.trouble == []
