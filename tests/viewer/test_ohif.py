"""OHIF 3.13, in a real browser, shows what the node made, and shows it in the right place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy import ndimage

from dicomnode.model.profile import PROFILES
from tests.viewer.conftest import KEPT
from tests.viewer.ohif import Ohif
from tests.viewer.study import COLORS, Study, largest_slice, make_study

# Axial with square pixels; sagittal with pixels that are not, in neither of the other two's spacings.
SPACINGS = {"axial": (1.25, 1.25, 3.0), "sagittal": (1.5, 1.25, 4.0)}
EDGE_PX = 3
"""As far from an edge the viewer may draw either side: it outlines its segments."""


@pytest.fixture(scope="module")
def studies(archive, manifest, provenance, tmp_path_factory) -> Callable[..., Study]:
    """A study by its orientation and the profile that its results are for, in the archive."""
    made: dict[str, Study] = {}
    folder = tmp_path_factory.mktemp("studies")

    def study(orientation: str, form: str = "ohif3") -> Study:
        name = f"{orientation}-{form}"
        if name not in made:
            spacing, profile = SPACINGS[orientation], PROFILES[form]
            made[name] = make_study(folder / name, manifest, provenance, orientation, spacing, profile)
            archive.store(made[name].instances)
        return made[name]

    return study


@pytest.fixture
def opened(browser, origin) -> Iterator[Callable[[Study], Ohif]]:
    """A study in a page of its own, gone after the test."""
    pages = []

    def open_study(study: Study) -> Ohif:
        pages.append(Ohif.opened(browser, origin, study.StudyInstanceUID, 3, KEPT))
        return pages[-1].__enter__()

    yield open_study
    for page in pages:
        page.__exit__(None, None, None)


def test_the_study_opens_and_lists_both_results(studies, opened):
    ohif = opened(studies("axial"))
    assert ohif.listed() == {
        ("SEG", "RESEARCH ONLY Brain tissue volumes SEG"),
        ("SR", "RESEARCH ONLY Brain tissue volumes SR"),
    }
    assert ohif.trouble == []


@pytest.mark.parametrize("orientation", SPACINGS)
def test_the_segments_are_named_colored_and_laid_over_the_right_slices(orientation, studies, opened):
    study = studies(orientation)
    ohif = opened(study)
    ohif.show_segmentation()
    for segment, color in zip(study.segments, COLORS, strict=True):
        assert ohif.segments()[segment.title] == pytest.approx(color, abs=3)
    at = ohif.slices()
    for index, uid in enumerate(study.slices):
        ohif.go_to(at[uid])
        assert wrong_pixels(ohif, study, index) == 0, f"slice {index}"
        if index == largest_slice(study.labels, study.segments[1].label):
            ohif.keep_picture(f"seg-{orientation}")
    assert ohif.trouble == []


def test_the_report_opens_and_shows_its_values_on_the_slice_of_each_segment(studies, opened):
    study = studies("axial")
    ohif = opened(study)
    at = ohif.slices()
    ohif.show_report()
    for segment in study.segments:
        index = largest_slice(study.labels, segment.label)
        ohif.wait_for_text(at[study.slices[index]], f"Volume: {study.volume_ml(segment):.2f} ml")
        np.testing.assert_allclose(
            box_around(ohif.outline()), box_around(expected_corners(ohif, study, segment.label)), atol=EDGE_PX
        )
        ohif.keep_picture(f"sr-{segment.name}")
    assert ohif.trouble == []


def test_a_report_without_coordinates_is_what_this_viewer_cannot_show(studies, opened):
    """Why the viewer's form of the report exists; when this fails, OHIF has been mended."""
    ohif = opened(studies("axial", "generic"))
    ohif.show("SR")
    assert "ReferencedSOPSequence" in ohif.wait_for_trouble()


def wrong_pixels(ohif: Ohif, study: Study, index: int) -> int:
    """How many pixels of the screen, away from edges, do not have the colour of what lies there."""
    screen = ohif.screen().astype(int)
    expected = expected_segments(ohif, study, index, screen.shape[:2])
    seen = seen_segments(screen)
    at_edge = ndimage.maximum_filter(expected, 2 * EDGE_PX + 1) != ndimage.minimum_filter(
        expected, 2 * EDGE_PX + 1
    )
    return int(((seen != expected) & ~at_edge).sum())


def expected_segments(ohif: Ohif, study: Study, index: int, shape: tuple[int, int]) -> np.ndarray:
    """The number of the segment at each pixel of the screen, 0 for none, from the label map alone."""
    lps = ohif.lps_of_screen(shape)
    affine = study.geometry.affine
    voxels = np.rint((lps - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    # The viewer says itself that it shows this slice: its plane goes through the slice's voxels.
    assert set(np.unique(voxels[..., 0])) == {index}
    inside = ((voxels >= 0) & (voxels < study.labels.shape)).all(axis=-1)
    labels = np.where(
        inside, study.labels[tuple(np.where(inside[..., None], voxels, 0).transpose(2, 0, 1))], 0
    )
    numbers = np.zeros(256, int)
    for number, segment in enumerate(study.segments, 1):
        numbers[segment.label] = number
    return numbers[labels]


def seen_segments(screen: np.ndarray) -> np.ndarray:
    """1 where the screen is reddish, 2 where it is greenish, as COLORS are; 0 where it is grey or blue."""
    red, green, blue = np.moveaxis(screen, -1, 0)
    return np.select([red > np.maximum(green, blue) + 25, green > np.maximum(red, blue) + 25], [1, 2], 0)


def expected_corners(ohif: Ohif, study: Study, label: int) -> np.ndarray:
    """Where the corners of the box around the segment are on the screen, (n, 2)."""
    index = largest_slice(study.labels, label)
    rows, columns = np.nonzero(study.labels[index] == label)
    corners = itertools.product(
        (rows.min() - 0.5, rows.max() + 0.5), (columns.min() - 0.5, columns.max() + 0.5)
    )
    return ohif.screen_of_lps(np.array([study.geometry.lps_of((index, *corner)) for corner in corners]))


def box_around(points: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
