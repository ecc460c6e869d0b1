"""What the bundle finds in volumes, and what it refuses to have found."""

import numpy as np
import pytest

from .conftest import Bundle

GREY_DICE, WHITE_DICE = 0.821, 0.888
"""Dice on the real head as in docs/README.md."""


def test_template_passes_with_labels_on_its_own_grid(template, template_result):
    code, labels = template_result
    assert code == ""
    assert labels.shape == template[0].shape
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_nothing_but_brain_is_labelled(template, template_result):
    assert np.mean(template[0][template_result[1] > 0] > 0) > 0.99


def test_template_agrees_with_the_maps_it_was_trained_on(template_result):
    from nilearn import datasets

    maps = [datasets.load_mni152_gm_template, datasets.load_mni152_wm_template]
    for label, load in ((2, maps[0]), (3, maps[1])):
        chances = np.asarray(load(resolution=2).dataobj)
        truth = chances > 0.5 * chances.max()
        found = template_result[1] == label
        assert 2 * np.sum(found & truth) / (np.sum(found) + np.sum(truth)) > 0.8


def test_storage_order_does_not_matter(bundle: Bundle, template, template_result):
    from scripts.checks import flipped

    image, affine = template
    _, _, turned, other = flipped(image, affine)
    code, labels = bundle.verdict(turned, other)
    _, _, expected, _ = flipped(template_result[1].astype(np.float32), affine)
    assert code == ""
    assert np.mean(labels == expected) > 0.995


def test_a_turned_grid_changes_the_volumes_little(bundle: Bundle, template, template_result):
    from scripts.checks import oblique

    image, affine = template
    _, _, turned, other = oblique(image, affine)
    code, labels = bundle.verdict(turned, other)
    assert code == ""
    for label in (1, 2, 3):
        before = np.sum(template_result[1] == label) * 8.0
        assert np.sum(labels == label) == pytest.approx(before, rel=0.1)


@pytest.mark.parametrize("kind", ["shuffled", "blank", "constant", "inverted", "lowest third"])
def test_what_is_no_head_is_refused(bundle: Bundle, template, kind):
    from scripts.checks import spoiled

    image, affine = template
    _, _, volume, other = next(case for case in spoiled(image, affine) if kind in case[0])
    code, labels = bundle.verdict(volume, other)
    assert labels.shape == volume.shape
    assert code


def test_real_head(bundle: Bundle, real_head):
    from scripts.evaluation import compare, read_dicom

    head, reference = real_head
    volume, affine = read_dicom(head)
    code, labels = bundle.verdict(volume, affine)
    found = compare(labels, affine, reference)
    assert code == ""
    assert found["grey_matter"] >= GREY_DICE - 0.02
    assert found["white_matter"] >= WHITE_DICE - 0.02
