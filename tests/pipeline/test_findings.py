"""A bundle's maps, marks and answers come back in their place; what is not as declared never does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.errors import GateFailed, RunFailed
from dicomnode.imaging.geometry import Geometry, SourceFrame
from dicomnode.imaging.inputs import read_input
from dicomnode.imaging.preview import planes_through
from dicomnode.imaging.statistics import ALL
from dicomnode.model.manifest import Manifest
from dicomnode.pipeline.contract import (
    LABELS,
    MOST_POINTS,
    PREVIEW,
    PROBLEMS,
    AnswerError,
    Done,
    Mark,
    Statistics,
    map_file,
)
from dicomnode.pipeline.registry import open_pipeline
from dicomnode.pipeline.validation import checked_findings
from dicomnode.rules.rule import check_rule
from tests.harness.toy_pipeline import MANIFEST, write_toy_pipeline
from tests.imaging.builders import AXIAL, ORIENTATIONS, mr_headers, write_series
from tests.pipeline.conftest import run, write_noise

if TYPE_CHECKING:
    from dicomnode.pipeline.bundle import Answer

DECLARED = """
[[map]]
name = "brightness"
title = "Brightness"
use = "parametric"
quantity = ["110852", "DCM", "MR signal intensity"]
unit = ["1", "UCUM", "no units"]

[[map]]
name = "chance"
title = "Chance"
use = "fractional"
segment = "bright"

[[mark]]
name = "peak"
title = "Brightest voxel"
shape = "point"
category = ["49755003", "SCT", "Morphologically Altered Structure"]
type = ["52988006", "SCT", "Lesion"]
color = [255, 0, 0]

[[mark]]
name = "edge"
title = "Edge"
shape = "polygon"
category = ["49755003", "SCT", "Morphologically Altered Structure"]
type = ["52988006", "SCT", "Lesion"]
color = [0, 255, 0]

[[question]]
name = "quality"
code = ["111050", "DCM", "Quality Assessment"]
choice = [
  { name = "good", code = ["111216", "DCM", "Acceptable"] },
  { name = "bad", code = ["111217", "DCM", "Unacceptable"] },
]
"""
SEGMENT = MANIFEST[MANIFEST.index("[[segment]]") :]
TRANSFORM = '''

class Tell:
    """Leaves a map, marks and an answer beside pred."""

    def __call__(self, data):
        """Of the image that the network saw."""
        values = data["image"].as_tensor()[0]
        peak = [int(i) for i in torch.unravel_index(values.argmax(), values.shape)]
        x, y, z = peak
        data["brightness"] = data["image"] / 1000
        data["chance"] = (values > 500).float()
        data["peak"] = [{{"points": [peak], "probability": 0.75}}, torch.tensor(peak)]
        data["edge"] = [[[0, 0, z], [3, 0, z], [3, 2.5, z]]]
        data["quality"] = "good"
        {extra}
        return data
'''


def telling(extra="pass", declared=DECLARED, *, segments=True):
    """Changes the toy so that it leaves more than a label map."""

    def edit(folder):
        manifest = folder / "pipeline.toml"
        text = manifest.read_text()
        manifest.write_text((text if segments else text.replace(SEGMENT, "")) + declared)
        network = folder / "scripts" / "network.py"
        network.write_text(network.read_text() + TRANSFORM.format(extra=extra))
        inference = folder / "configs" / "inference.json"
        config = json.loads(inference.read_text())
        config["postprocessing"]["transforms"].append({"_target_": "scripts.network.Tell"})
        inference.write_text(json.dumps(config))

    return edit


def test_maps_marks_and_answers_come_back_on_the_grid_of_their_input_in_every_orientation(
    runner_of, tmp_path
):
    runner = runner_of(telling())
    for name, orientation in ORIENTATIONS.items():
        paths, frames = write_noise(tmp_path / name, orientation)
        found = run(runner, paths[::-1]).findings
        np.testing.assert_allclose(found.maps["brightness"], frames / 1000, rtol=1e-6)
        np.testing.assert_array_equal(found.maps["chance"], frames > 500)
        assert {values.dtype for values in found.maps.values()} == {np.dtype(np.float32)}
        peak = np.unravel_index(frames.argmax(), frames.shape)
        first, second, edge = found.marks
        assert (first.name, first.probability, second.probability) == ("peak", 0.75, None)
        np.testing.assert_array_equal(first.points, [peak])
        np.testing.assert_array_equal(second.points, [peak])
        np.testing.assert_array_equal(edge.points, [[peak[0], 0, 0], [peak[0], 0, 3], [peak[0], 2.5, 3]])
        assert found.answers == {"quality": "good"}
        for plane, expected in zip(
            found.preview.planes, planes_through(frames, found.preview.index), strict=True
        ):
            np.testing.assert_array_equal(plane, expected)


def test_a_slanted_stack_gets_its_maps_and_marks_back_on_its_own_slices(runner_of, tmp_path):
    headers = mr_headers(shape=(5, 12, 10), spacing=(1.0, 1.0, 2.0))
    for index, ds in enumerate(headers):
        ds.ImagePositionPatient[1] = float(ds.ImagePositionPatient[1]) + 1.1 * index
    frames = np.random.default_rng(3).integers(1, 1000, (5, 12, 10)).astype(np.uint16)
    # The corner of the upright stack, where the toy's edge lies, is on no slice.
    runner = runner_of(telling("data['edge'] = []"))
    found = run(runner, write_series(headers, frames, tmp_path)).findings
    np.testing.assert_allclose(found.maps["brightness"], frames / 1000, rtol=1e-6)
    np.testing.assert_array_equal(found.marks[0].points, [np.unravel_index(frames.argmax(), frames.shape)])


def test_a_bundle_without_segments_has_a_label_map_of_nought(runner_of, series):
    declared = DECLARED.replace('use = "fractional"\nsegment = "bright"', 'use = "parametric"')
    declared = declared.replace(
        'title = "Chance"', 'title = "Chance"\nquantity = ["1", "99X", "q"]\nunit = ["1", "UCUM", "1"]'
    )
    found = run(runner_of(telling("del data['pred']", declared, segments=False)), series).findings
    assert not found.labels.any()
    assert set(found.maps) == {"brightness", "chance"}
    assert found.statistics[ALL].volume_ml == 0


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("data['pred'] = data['pred'][..., :-1]", "pred is not on the grid of the input"),
        ("data['peak'] = [[0, 0, 0]] * 10001", "measure"),
    ],
)
def test_what_is_not_as_declared_ends_the_run_and_is_named(runner_of, series, extra, words):
    with pytest.raises(RunFailed) as caught:
        run(runner_of(telling(extra)), series)
    assert words in str(caught.value)


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Iterator[Callable[[str], Answer]]:
    """What the toy answers, in this process, when its answer is changed on the way out."""
    # Imported here: the other tests are not to wait for torch.
    from dicomnode.pipeline.bundle import Bundle

    home = tmp_path_factory.mktemp("told")
    folder = write_toy_pipeline(home / "pipelines")
    telling("exec(os.environ['CHANGE'])")(folder)
    declared = open_pipeline(folder, check_rule).manifest
    volume = read_input(write_noise(home / "series", AXIAL)[0], declared.pipeline.input, None)
    with pytest.MonkeyPatch.context() as patch:
        # What a bundle does to the process that is its own is undone.
        patch.setattr(sys, "pycache_prefix", None)
        patch.setattr(sys, "path", list(sys.path))
        for name in scripts():
            patch.delitem(sys.modules, name)
        bundle = Bundle(folder, declared, "cpu", home)

        def told(change: str) -> Answer:
            patch.setenv("CHANGE", change)
            return bundle.run(volume, {}, lambda _: None)

        yield told
        for name in scripts():
            del sys.modules[name]


def scripts() -> list[str]:
    """The modules of bundles that are imported here."""
    return [name for name in sys.modules if name.split(".")[0] == "scripts"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data['pred'] = data['pred'][..., :-1]", "pred is not on the grid of the input"),
        ("data['pred'] = data['pred'] * 0.5", "pred holds numbers that are not whole"),
        ("data['pred'] = data['pred'] * 300", "pred holds numbers that are no labels"),
        ("data['pred'] = None", "pred is not there"),
        ("data['brightness'] = data['brightness'][..., :-1]", "brightness is not on the grid"),
        ("del data['brightness']", "brightness is not there"),
        ("del data['quality']", "quality is not there"),
        ("data['peak'] = [[1, 2]]", "peak has points that are not finite (X, Y, Z)"),
        ("data['peak'] = [[float('nan'), 0, 0]]", "peak has points that are not finite (X, Y, Z)"),
        (
            "data['peak'] = [{'points': [[0, 0, 0]], 'probability': 1.5}]",
            "peak has a probability that is not from 0 to 1",
        ),
    ],
)
def test_a_bundle_names_what_is_not_as_declared(told, change, words):
    assert told("pass").labels.any()
    with pytest.raises(AnswerError) as caught:
        told(change)
    assert words in f"{caught.value.name} {PROBLEMS[caught.value.problem]}"


GEOMETRY = Geometry((3, 4, 5), np.eye(4), (1.0, 1.0, 1.0), (SourceFrame("1"),) * 3, "1.2")


def manifest():
    import tomllib

    return Manifest.model_validate(tomllib.loads(MANIFEST.format(time_limit_s=1, memory_mb=2000) + DECLARED))


def said(folder, **changes):
    """What the toy would say of an empty input, with changes."""
    np.save(folder / LABELS, np.zeros(GEOMETRY.shape, np.uint8))
    for name, plane in zip(
        PREVIEW, planes_through(np.zeros(GEOMETRY.shape, np.float32), (0, 0, 0)), strict=True
    ):
        np.save(folder / name, plane)
    for name in ("brightness", "chance"):
        np.save(folder / map_file(name), np.zeros(GEOMETRY.shape, np.float32))
    nothing = Statistics(volume_ml=0, mean=0, sd=0, largest_component=0)
    told = {"statistics": {"bright": nothing, ALL: nothing}, "values": {}, "answers": {"quality": "bad"}}
    return Done.model_validate({**told, "timings": {}, **changes})


index = st.floats(-2, 7, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(point=st.tuples(index, index, index))
def test_a_point_is_taken_where_it_is_inside_the_grid_or_half_a_voxel_around_it(point, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scratch")
    done = said(folder, marks=(Mark(name="peak", points=(point,)),))
    inside = all(-0.5 <= at <= length - 0.5 for at, length in zip(point, GEOMETRY.shape, strict=True))
    try:
        found = checked_findings(done, folder, GEOMETRY, manifest())
    except GateFailed:
        assert not inside
    else:
        np.testing.assert_array_equal(found.marks[0].points, [point])


@pytest.mark.parametrize(
    "marks",
    [
        [Mark(name="other", points=((0, 0, 0),))],
        [Mark(name="peak", points=((0, 0, 0), (1, 1, 1)))],
        [Mark(name="edge", points=((0, 0, 0), (0, 1, 1)))],
        [Mark(name="edge", points=((1, 0, 0), (1, 1, 1), (1, 0, 0)))],
        [Mark(name="edge", points=((1, 0, 0), (1, 2, 2), (1, 0, 2), (1, 2, 0)))],
        [Mark(name="edge", points=((1, 0, 0), (1, 1, 1), (1, 2, 2)))],
        [Mark(name="edge", points=((1.4, 0, 0), (1.4, 1, 1), (1.4, 0, 1)))],
        [Mark(name="edge", points=((1, 0, 0),) * (MOST_POINTS // 2 + 1))] * 2,
    ],
)
def test_marks_that_are_not_of_their_shape_are_refused(marks, tmp_path):
    with pytest.raises(GateFailed):
        checked_findings(said(tmp_path, marks=marks), tmp_path, GEOMETRY, manifest())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answers": {"quality": "superb"}}, "none of its choices"),
        ({"marks": [Mark(name="peak", points=((0, 0, -0.6),))]}, "(peak) lies outside the grid"),
        ({"marks": [Mark(name="edge", points=((0, 0, 0), (1, 1, 1), (0, 0, 2)))]}, "not in one slice"),
    ],
)
def test_what_was_not_declared_is_refused_and_named(changes, words, tmp_path):
    with pytest.raises(GateFailed) as caught:
        checked_findings(said(tmp_path, **changes), tmp_path, GEOMETRY, manifest())
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("brightness", np.inf, "not finite"),
        ("brightness", np.nan, "not finite"),
        ("chance", 2, "no probabilities"),
    ],
)
def test_a_map_whose_values_mean_nothing_is_refused(name, value, words, tmp_path):
    done = said(tmp_path)
    np.save(tmp_path / map_file(name), np.full(GEOMETRY.shape, value, np.float32))
    with pytest.raises(GateFailed, match=words):
        checked_findings(done, tmp_path, GEOMETRY, manifest())


def test_a_map_that_is_larger_than_the_grid_is_not_read(tmp_path):
    done = said(tmp_path)
    np.save(tmp_path / map_file("brightness"), np.zeros((300, 40, 50), np.float32))
    with pytest.raises(GateFailed, match="larger"):
        checked_findings(done, tmp_path, GEOMETRY, manifest())


def test_a_map_of_another_type_is_refused(tmp_path):
    done = said(tmp_path)
    np.save(tmp_path / map_file("brightness"), np.zeros(GEOMETRY.shape, np.float16))
    with pytest.raises(GateFailed, match="not on the grid"):
        checked_findings(done, tmp_path, GEOMETRY, manifest())
