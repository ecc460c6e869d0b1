"""Every case has its tests, and those are there."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.hostile.table import CASES, ELSEWHERE

TESTS = Path(__file__).parents[1]


def test_every_case_has_a_test_or_an_interface_that_does_not_exist():
    assert sorted({*CASES} | ELSEWHERE) == list(range(1, 71))
    assert not {*CASES} & ELSEWHERE


def test_the_tests_that_are_named_are_there():
    for names in CASES.values():
        for name in names:
            file, _, test = name.partition("::")
            functions = [node for node in ast.parse((TESTS / file).read_text()).body if hasattr(node, "name")]
            assert test in [function.name for function in functions], name
