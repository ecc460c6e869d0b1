"""Whatever the input is like, a bundle sees an upright volume, and answers on the grid of the source."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
from pydicom.uid import ComputedRadiographyImageStorage, generate_uid

from dicomnode.errors import ConfigError
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.headers import read_headers
from dicomnode.imaging.projection import image_geometry
from dicomnode.pipeline.registry import open_pipeline
from dicomnode.pipeline.runner import Runner
from dicomnode.rules.rule import check_rule
from tests.harness.toy_pipeline import write_toy_pipeline
from tests.imaging import phantoms
from tests.imaging.builders import OBLIQUE, mr_headers, write_series
from tests.pipeline.conftest import run

SHAPE = (6, 12, 10)


def noise(count=SHAPE[0]):
    return np.random.default_rng(7).integers(0, 1000, (count, *SHAPE[1:])).astype(np.uint16)


def upright_only(folder):
    """A network that fails on an affine without right angles."""
    network = folder / "scripts" / "network.py"
    network.write_text(
        network.read_text().replace(
            "        bright = ",
            "        axes = torch.as_tensor(image.affine)[..., :3, :3].double().reshape(3, 3)\n"
            "        axes = axes / axes.norm(dim=0)\n"
            "        assert (axes.T @ axes - torch.eye(3, dtype=axes.dtype)).abs().max() < 1e-3\n"
            "        bright = ",
        )
    )


@pytest.fixture(scope="module")
def upright(tmp_path_factory) -> Iterator[Runner]:
    """One child that stays warm, whose network wants an upright volume."""
    home = tmp_path_factory.mktemp("upright")
    folder = write_toy_pipeline(home / "pipelines")
    upright_only(folder)
    inputs = tmp_path_factory.getbasetemp()
    runner = Runner(open_pipeline(folder, check_rule), "cpu", home / "scratch", inputs)
    yield runner
    runner.close()


def test_a_tilted_stack_is_seen_upright_and_labelled_on_its_own_slices(upright, tmp_path):
    frames = noise()
    paths = write_series(mr_headers(OBLIQUE, SHAPE, slant=(1.0, -0.5)), frames, tmp_path)
    findings = run(upright, paths).findings
    np.testing.assert_array_equal(findings.labels, frames > 500)


def test_frames_of_one_instance_are_labelled_in_slice_order(upright, tmp_path):
    frames = noise()
    path = phantoms.write_multi_frame(
        mr_headers(OBLIQUE, SHAPE), frames.astype(float), tmp_path / "a.dcm", phantoms.ENHANCED["MR"]
    )
    np.testing.assert_array_equal(run(upright, [path]).findings.labels, frames > 500)


def test_the_child_reads_the_stack_that_the_parent_chose(upright, tmp_path):
    headers = mr_headers(OBLIQUE, SHAPE)
    second = copy.deepcopy(headers)
    for ds in second:
        ds.SOPInstanceUID, ds.EchoTime = generate_uid(), "92"
    frames = noise(2 * SHAPE[0])
    paths = write_series([*headers, *second], frames, tmp_path)
    for meant, part in ((2.98, frames[:6]), (92, frames[6:])):
        geometry, _ = series_geometry(
            read_headers(paths), lambda stack, meant=meant: stack["echo_time"] == meant
        )
        np.testing.assert_array_equal(upright.run(paths, geometry).findings.labels, part > 500)


def test_a_projection_is_labelled_as_one_slice(runner_of, tmp_path):
    headers = mr_headers(shape=(1, *SHAPE[1:]))
    headers[0].SOPClassUID = ComputedRadiographyImageStorage
    frames = noise(1)
    paths = write_series(headers, frames, tmp_path)
    runner = runner_of(
        lambda folder: (folder / "pipeline.toml").write_text(
            (folder / "pipeline.toml").read_text().replace('"volume"\ntime', '"projection"\ntime')
        )
    )
    findings = runner.run(paths, image_geometry(read_headers(paths))[0]).findings
    np.testing.assert_array_equal(findings.labels, frames > 500)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [("stack.echo_time <", "select.when: "), ("stack.echotime < 10", "did you mean stack.echo_time?")],
)
def test_a_wrong_choice_of_a_stack_is_named_when_the_pipeline_is_opened(rule, problem, install):
    def select(folder):
        with (folder / "pipeline.toml").open("a") as file:
            file.write(f"\n[select]\nwhen = '{rule}'\n")

    with pytest.raises(ConfigError) as caught:
        install(select)
    assert problem in str(caught.value)
