"""The picture shows a segment where it lies in the patient, in its colour, at its true proportions."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.color import CIELabColor
from PIL import Image
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicomnode.demo import picture
from dicomnode.imaging.volume import read_volume
from tests.demo.builders import oblique_sagittal, write_block_series

RED, BLUE = (230, 60, 50), (40, 90, 240)


def seg_of(datasets: list[pydicom.Dataset], labels: np.ndarray) -> pydicom.Dataset:
    algorithm = highdicom.AlgorithmIdentificationSequence("test", codes.DCM.ArtificialIntelligence, "1")
    segments = [
        highdicom.seg.SegmentDescription(
            number,
            label,
            codes.SCT.Tissue,
            codes.SCT.Brain,
            highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm,
            display_color=CIELabColor.from_rgb(*colour),
        )
        for number, label, colour in ((1, "Block", RED), (2, "Rest", BLUE))
    ]
    return highdicom.seg.Segmentation(
        datasets, labels, "BINARY", segments, generate_uid(), 7, generate_uid(), 1, "maker", "model", "1", "1"
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> picture.Overlay:
    files = write_block_series(tmp_path_factory.mktemp("series"))
    labels = (oblique_sagittal().frames > 0).astype(np.uint8)
    labels[12, 20, 2] = 2
    # Files in a wrong order: only their positions count.
    seg = seg_of([pydicom.dcmread(file) for file in files], labels)
    return picture.overlay(read_volume(files[::-1]), seg)


def test_the_segment_lies_on_what_it_marks(shown):
    assert np.array_equal(shown.labels == 1, shown.series.array > 0)
    assert np.count_nonzero(shown.labels == 1) == 4 * 5 * 11


def test_planes_have_their_size_in_mm_and_the_letters_of_the_patient(shown):
    axial, coronal, sagittal = picture.planes(shown)
    assert (axial.edges, coronal.edges, sagittal.edges) == (
        ("R", "L", "A", "P"),
        ("R", "L", "S", "I"),
        ("A", "P", "S", "I"),
    )
    assert axial.mm == pytest.approx((40, 40))
    assert coronal.mm == pytest.approx((36, 40))
    assert sagittal.mm == pytest.approx((36, 40))
    assert all(np.any(plane.labels == 1) for plane in (axial, coronal, sagittal))


def test_colours_are_those_of_the_segments(shown):
    block, rest = shown.segments
    assert (block.label, rest.label) == ("Block", "Rest")
    assert block.colour == pytest.approx(RED, abs=2)
    assert rest.colour == pytest.approx(BLUE, abs=2)


def test_the_left_of_the_patient_is_drawn_on_the_right(shown, tmp_path: Path):
    picture.draw(shown, "a title", {1: 12.3}, tmp_path / "picture.png")
    image = np.asarray(Image.open(tmp_path / "picture.png")) / 255
    width = image.shape[1]
    # The planes with the segments are below those without, and above the table.
    axial = image[450:840, : width // 3]
    over_white = 0.45 * np.divide(RED, 255) + 0.55
    columns = np.nonzero(np.all(np.abs(axial - over_white) < 0.03, axis=-1))[1]
    assert columns.size > 100
    assert columns.min() > axial.shape[1] / 2
