"""A rule holds or does not, says what decided it, and a wrong one does not compile."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.errors import RuleError
from dicomnode.rules.rule import LONGEST, Rule, check_rule
from dicomnode.rules.tokens import fact_names, split

FACTS = {"series": {"modality": "MR", "description": "T1 mprage", "instances": 160}}
KNOWN = {"series": {"modality": "", "description": "", "instances": 1, "slice_thickness": 1.0}}


@pytest.mark.parametrize(
    ("source", "matched"),
    [
        ('series.modality == "MR" && series.instances >= 60', True),
        ('series.modality == "CT" || series.description.matches("(?i)MPRAGE")', True),
        ('series.modality in ["CT", "PT"]', False),
        ("has(series.slice_thickness) && series.slice_thickness < 1.0", False),
        ("!has(series.slice_thickness) || series.slice_thickness < 1.0", True),
    ],
)
def test_a_rule_matches_what_it_says(source, matched):
    rule = Rule(source, KNOWN)
    assert rule.holds(FACTS).matched is matched
    assert rule.matches(FACTS) is matched


def test_an_absent_fact_does_not_match_and_is_named():
    verdict = Rule('series.modality == "MR" && series.slice_thickness < 1.5').holds(FACTS)
    assert not verdict.matched
    assert verdict.note == "series.slice_thickness is not in the header"
    assert [condition.outcome for condition in verdict.conditions] == [True, None]


def test_a_type_mix_up_does_not_match_and_is_named():
    verdict = Rule("series.description > 5").holds(FACTS)
    assert not verdict.matched
    assert verdict.note == "the types do not go together: series.description is text"


@pytest.mark.parametrize("source", ["0 / 0 == 1", "[1, 2][5] == 1"])
def test_what_cannot_be_evaluated_does_not_match(source):
    assert Rule(source).holds(FACTS).note == "cannot be evaluated"


def test_something_that_is_no_condition_does_not_match():
    verdict = Rule("series.instances").holds(FACTS)
    assert not verdict.matched
    assert verdict.note == "is no condition: it gives a whole number"


def test_each_condition_shows_the_values_that_decided_it():
    verdict = Rule('series.modality == "MR" && (series.instances > 200 || series.instances < 9)').holds(FACTS)
    assert [dict(condition.values) for condition in verdict.conditions] == [
        {"series.modality": "MR"},
        {"series.instances": 160},
    ]
    assert [condition.outcome for condition in verdict.conditions] == [True, False]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('series.modality == "MR" &&', "line 1, column 27"),
        ('series.modalty == "MR"', "did you mean series.modality"),
        ('serie.modality == "MR"', "did you mean series"),
        ("lowerAscii(series.modality) == ''", "there is no function lowerAscii"),
        ('series.modality.matches("(")', "column 25: not a regular expression"),
        ("'" + "x" * LONGEST + "' == ''", "longer than"),
        ("(" * 900 + "true" + ")" * 900, "column"),
        ("[1].all(a, [1].all(b, [1].all(c, a + b + c > 0)))", "loops 3 times"),
        ("", "column 1"),
        ('series.description > 5 && series.modality == "MR"', "series.description is text"),
        ('series.modality == "CT" || !(series.instances.matches("x"))', "series.instances is a whole number"),
        ("series.instances", "is no condition: it gives a whole number"),
    ],
)
def test_a_wrong_rule_does_not_compile_and_says_where(source, words):
    with pytest.raises(RuleError) as caught:
        Rule(source, KNOWN)
    assert words in str(caught.value)


def test_a_condition_of_a_pipeline_may_ask_about_volume_segments_and_values():
    check_rule(
        'segments.grey.volume_ml > 1.0 && segments["grey"].mean > 0.0 && values.x < 1.0 && all.sd > 0.0'
    )
    check_rule("volume.spacing.all(s, s <= 2.5) && volume.maximum > volume.minimum")
    with pytest.raises(RuleError, match=r"did you mean volume\.spacing"):
        check_rule("volume.spacings.all(s, s <= 2.5)")


def test_a_rule_knows_the_facts_that_it_reads():
    rule = Rule('volume.maximum > 0.0 && series["modality"] == "series.x" && volume.shape.all(n, n > 1)')
    assert rule.names == {"volume.maximum", "series.modality", "volume.shape"}


def test_names_in_strings_and_comments_are_no_facts():
    assert fact_names('a.b == "c.d" // e.f') == (("a", "b"),)


OPERANDS = st.sampled_from(
    [
        'a.b == "x && y"',
        "a.c == 'it\\'s || not'",
        "(a.b > 1 || a.c < 2)",
        "!(a.b && a.c)",
        "a.l.all(x, x > 0 && x < 9)",
        'r"\\" == a.b',
        '["p && q", "r"][0] == a.b',
        "(a.b ? a.c : true)",
        '"""two " || quotes""" == a.b',
    ]
)


@given(st.lists(OPERANDS, min_size=1, max_size=6), st.lists(st.sampled_from(["&&", "||"]), min_size=5))
def test_the_operands_of_a_rule_come_back_as_they_were_joined(operands, operators):
    used = operators[: len(operands) - 1]
    source = operands[0] + "".join(f" {op}\n {more}" for op, more in zip(used, operands[1:], strict=True))
    assert split(source) == (tuple(operands), tuple(used))


def test_a_choice_is_one_condition():
    source = "a.b && a.c ? a.d : a.e"
    assert split(source) == ((source,), ())


@given(st.text(max_size=200))
def test_no_text_makes_the_compiler_do_anything_but_compile_or_refuse(source):
    with contextlib.suppress(RuleError):
        Rule(source).holds(FACTS)
