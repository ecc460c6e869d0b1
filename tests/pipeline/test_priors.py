"""A bundle is given priors under their names, each on a grid of its own."""

from __future__ import annotations

import numpy as np
import pytest

from dicomnode.errors import ConfigError
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers
from dicomnode.pipeline.runner import PriorInput
from tests.harness.toy_pipeline import with_prior
from tests.imaging.builders import AXIAL, ORIENTATIONS, mr_headers, write_series
from tests.pipeline.conftest import write_noise


@pytest.fixture
def before(tmp_path):
    """A prior on another grid than the series."""
    return write_noise(tmp_path / "before", ORIENTATIONS["sagittal"], (6, 9, 7))


def test_a_prior_reaches_the_bundle_under_its_name_and_one_that_is_left_out_is_no_key(
    runner_of, series, before
):
    runner = runner_of(with_prior())
    paths, frames = before
    stack = series_geometry(read_headers(paths))[0].stack
    outcome = runner.run(
        series, series_geometry(read_headers(series))[0], priors=[PriorInput("before", tuple(paths), stack)]
    )
    assert outcome.findings.values["before_mean"] == pytest.approx(frames.mean(), rel=1e-5)
    assert outcome.findings.labels.any()
    outcome = runner.run(series, series_geometry(read_headers(series))[0])
    assert outcome.findings.values["before_mean"] == -1.0


CHANNELS = (
    {"_target_": "EnsureChannelFirstd", "keys": ["image", "before"], "channel_dim": "no_channel"},
    {"_target_": "ResampleToMatchd", "keys": "before", "key_dst": "image"},
    {"_target_": "ConcatItemsd", "keys": ["image", "before"], "name": "image"},
)
"""As docs/priors.md has them."""


def test_a_network_takes_a_prior_as_a_channel_on_the_grid_of_its_input(runner_of, series, tmp_path):
    """The series and its prior are of one place, and the network looks at the prior alone."""
    values = np.random.default_rng(8).integers(0, 1000, (5, 12, 10)).astype(np.uint16)
    (tmp_path / "before").mkdir()
    paths = write_series(mr_headers(AXIAL, values.shape), values, tmp_path / "before")
    runner = runner_of(with_prior(preprocessing=CHANNELS), extra="image = image[:, 1:]")
    geometry = series_geometry(read_headers(series))[0]
    outcome = runner.run(series, geometry, priors=[PriorInput("before", tuple(paths), 0)])
    np.testing.assert_array_equal(outcome.findings.labels, (values > 500).astype(np.uint8))


@pytest.mark.parametrize(
    ("prior", "problem"),
    [
        (
            'name = "before"\nwhen = "prior.modalty == \'MR\'"',
            "prior[1].when: column 1: there is no prior.",
        ),
        ('name = "image"\nwhen = "true"', "image is the name of a prior and of something else"),
        ('name = "before_mean"\nwhen = "true"', "before_mean is the name of a prior and of something else"),
        ('name = "before"\nwhen = "true"\ncount = 0', "prior[1].count"),
        ('name = "before"\nwhen = "true"\nwithin_day = 3', "did you mean 'within_days'?"),
    ],
)
def test_a_manifest_that_asks_for_what_there_is_not_is_refused_and_names_it(install, prior, problem):
    with pytest.raises(ConfigError) as caught:
        install(with_prior(f"[[prior]]\n{prior}"))
    assert problem in str(caught.value)
