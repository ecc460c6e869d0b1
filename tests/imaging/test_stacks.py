"""A series of several volumes is taken apart by what differs, and a pipeline takes one of them or none."""

from __future__ import annotations

import copy
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from dicomnode.errors import Refused
from dicomnode.imaging.geometry import series_geometry
from tests.imaging import phantoms
from tests.imaging.builders import OBLIQUE, mr_headers

SHAPE = (5, 4, 4)


def stacks(*changes):
    """A series of one stack for each of these mappings of attributes; a callable is asked for each slice."""
    made = []
    for change in changes:
        for index, ds in enumerate(copy.deepcopy(BASE)):
            ds.SOPInstanceUID = generate_uid()
            for keyword, value in change.items():
                setattr(ds, keyword, value(index) if callable(value) else value)
            made.append(ds)
    return random.Random(3).sample(made, len(made))


BASE = mr_headers(OBLIQUE, SHAPE)


def refusal(headers, choose=None):
    with pytest.raises(Refused) as caught:
        series_geometry(headers, choose)
    return caught.value.code, caught.value.reason.split("; ")[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{"EchoTime": "92"}, {"EchoTime": "4.6"}], "2 echoes: 4.6 and 92 ms"),
        ([{"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}], "2 b-values: 0 and 1000 s/mm2"),
        ([{}, {"DiffusionBValue": 800.0}], "2 b-values: none and 800 s/mm2"),
        ([{"TemporalPositionIdentifier": n} for n in range(1, 21)], "20 phases: 1 to 20 "),
        (
            [{"ImageType": ["ORIGINAL", "PRIMARY", part, "NORM"]} for part in ("P", "M")],
            "2 image types: M and P",
        ),
        ([{"AcquisitionNumber": n} for n in (1, 2)], "2 acquisitions: 1 and 2"),
        ([{"ConvolutionKernel": kernel} for kernel in ("B30f", "B70f")], "2 kernels: B30f and B70f"),
        (
            [{"EchoTime": te, "TriggerTime": at} for te in ("5", "9") for at in ("0", "50", "100")],
            "6 volumes: 2 echoes (5 and 9 ms), 3 phases (0, 50 and 100 ms)",
        ),
        (
            [{"TriggerTime": lambda n: str(7 * n)}, {"TriggerTime": lambda n: str(500 - 3 * n)}],
            "2 phases: 1 and 2",
        ),
        (
            [{"ContentTime": lambda n: f"1000{n:02}"}, {"ContentTime": lambda n: f"1100{n:02}"}],
            "2 phases: 1 and 2",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_series_of_several_volumes_says_what_tells_them_apart(changes, words):
    assert refusal(stacks(*changes)) == ("SEVERAL_STACKS", words.strip())


def test_the_stack_that_is_meant_is_taken():
    headers = stacks({"EchoTime": "92"}, {"EchoTime": "4.6"})
    geometry, ordered = series_geometry(headers, lambda stack: stack["echo_time"] < 10)
    assert {ds.EchoTime for ds in ordered} == {4.6}
    assert (geometry.shape, geometry.stack) == (SHAPE, 1)
    again, _ = series_geometry(headers[::-1], lambda stack: stack["index"] == geometry.stack)
    assert again.frames == geometry.frames


@pytest.mark.parametrize(("least", "code"), [(100, "NO_STACK"), (0, "SEVERAL_STACKS")])
def test_a_choice_that_is_none_or_several_is_refused(least, code):
    headers = stacks({"EchoTime": "92"}, {"EchoTime": "4.6"})
    assert refusal(headers, lambda stack: stack["echo_time"] > least) == (code, "2 echoes: 4.6 and 92 ms")


def test_a_choice_holds_for_a_series_of_one_volume_too():
    assert refusal(stacks({"EchoTime": "92"}), lambda stack: stack["echo_time"] < 10) == (
        "NO_STACK",
        "one volume",
    )


def test_directions_of_one_b_value_are_stacks_beside_that_without_gradient():
    directions = [{"DiffusionBValue": 1000.0, "DiffusionGradientOrientation": [x, 0, 1]} for x in (0, 1)]
    headers = stacks({"DiffusionBValue": 0.0}, *directions)
    assert refusal(headers)[1].startswith("3 volumes: 2 b-values (0 and 1000 s/mm2), 3 gradients")
    geometry, ordered = series_geometry(headers, lambda stack: stack["b_value"] == 0)
    assert {ds.DiffusionBValue for ds in ordered} == {0.0}
    assert geometry.shape == SHAPE


@pytest.mark.parametrize(
    ("creator", "group", "element", "vr", "value"),
    [
        ("SIEMENS MR HEADER", 0x0019, 0x0C, "IS", "800"),
        ("Philips Imaging DD 001", 0x2001, 0x03, "FL", 800.0),
        ("GEMS_PARM_01", 0x0043, 0x39, "IS", ["1000000800", "8", "0", "0"]),
    ],
)
def test_b_values_in_the_elements_of_a_maker_tell_stacks_apart(creator, group, element, vr, value):
    headers = stacks({"SeriesDescription": "b0"}, {"SeriesDescription": "b800"})
    for ds in headers:
        if ds.SeriesDescription == "b800":
            ds.private_block(group, creator, create=True).add_new(element, vr, value)
    assert refusal(headers) == ("SEVERAL_STACKS", "2 b-values: none and 800 s/mm2")


def test_what_changes_from_slice_to_slice_splits_nothing():
    headers = stacks({"AcquisitionNumber": lambda n: n, "EchoTime": lambda n: str(4 + n)})
    assert series_geometry(headers)[0].stack == 0


def test_one_slice_that_was_taken_again_is_no_stack():
    headers = stacks({"AcquisitionNumber": 1})
    again = copy.deepcopy(headers[2])
    again.SOPInstanceUID, again.AcquisitionNumber = generate_uid(), 2
    assert refusal([*headers, again]) == ("DUPLICATE_POSITIONS", "1 of 6 slices lie where another one lies")


def test_slices_in_one_place_that_nothing_tells_apart_are_refused():
    assert refusal(stacks({}, {}))[0] == "DUPLICATE_POSITIONS"


@settings(max_examples=25, deadline=None)
@given(
    echoes=st.integers(1, 3), phases=st.integers(1, 4), b_values=st.integers(1, 2), seed=st.integers(0, 99)
)
def test_every_stack_comes_out_whole(echoes, phases, b_values, seed):
    grid = list(itertools.product(range(echoes), range(phases), range(b_values)))
    headers = stacks(
        *({"EchoTime": str(te), "TemporalPositionIndex": at, "DiffusionBValue": b} for te, at, b in grid)
    )
    random.Random(seed).shuffle(headers)
    for wanted in range(1, len(grid) + 1):
        geometry, ordered = series_geometry(headers, lambda stack, wanted=wanted: stack["index"] == wanted)
        (told,) = {(ds.EchoTime, ds.TemporalPositionIndex, ds.DiffusionBValue) for ds in ordered}
        assert (geometry.shape, geometry.stack) == (SHAPE, wanted if len(grid) > 1 else 0)
        assert tuple(map(int, told)) in grid


def test_stacks_in_the_frames_of_one_instance_are_told_apart():
    headers = stacks({"TemporalPositionIndex": 1}, {"TemporalPositionIndex": 2})
    ds = phantoms.multi_frame(headers, phantoms.ENHANCED["MR"])
    assert refusal([ds]) == ("SEVERAL_STACKS", "2 phases: 1 and 2")
    geometry, _ = series_geometry([ds], lambda stack: stack["temporal_position"] == 2)
    assert [headers[frame.frame - 1].TemporalPositionIndex for frame in geometry.frames] == [2] * 5
