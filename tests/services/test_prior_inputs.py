"""What a pipeline is given beside its input is looked at once more: whose it is, and if it can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given as given_examples
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.model.manifest import Manifest
from dicomnode.model.prior import Patient
from dicomnode.pipeline.manifest import load_manifest
from dicomnode.rules.rule import check_rule
from dicomnode.services.prior_inputs import NO_PRIORS, GivenPriors, UsedPriors, use_priors
from tests.harness.heads import small_series, write_series
from tests.harness.toy_pipeline import PRIOR, with_prior, write_toy_pipeline

SLICES = 4


@pytest.fixture
def manifest_of(tmp_path):
    def make(more: str = "") -> Manifest:
        toy = write_toy_pipeline(tmp_path / "pipelines")
        with_prior(PRIOR.format(more=more))(toy)
        return load_manifest(toy, check_rule)

    return make


def given(folder: Path, *all_series: list[Dataset]) -> GivenPriors:
    written = [write_series(folder / str(number), each) for number, each in enumerate(all_series)]
    return GivenPriors([("before", paths) for paths in written], {"before": "2 found"})


def use(manifest: Manifest, priors: GivenPriors) -> UsedPriors:
    return use_priors(manifest, priors, small_series(1)[0], None)


def test_each_is_given_under_a_name_of_its_own_and_told_of(manifest_of, tmp_path):
    latest, other = small_series(SLICES, StudyDate="20250301"), small_series(SLICES, StudyDate="20250201")
    used = use(manifest_of("count = 2"), given(tmp_path, latest, other))
    assert [each.key for each in used.inputs] == ["before", "before_2"]
    assert used.notes == (
        f"Prior before: MR of 20250301, series {latest[0].SeriesInstanceUID}.",
        f"Prior before: MR of 20250201, series {other[0].SeriesInstanceUID}.",
    )
    assert len(used.references) == 2 * SLICES


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"PatientID": "P2"}, "MIXED_PATIENT"),
        ({"PatientBirthDate": "19700102"}, "MIXED_PATIENT"),
        ({"ImagePositionPatient": [0.0, 0.0, 77.0]}, "IRREGULAR_SPACING"),
    ],
)
def test_one_instance_that_is_wrong_costs_the_whole_series(manifest_of, tmp_path, wrong, code):
    broken = small_series(SLICES, StudyDate="20250301")
    for keyword, value in wrong.items():
        setattr(broken[-1], keyword, value)
    sound = small_series(SLICES, StudyDate="20250201")
    manifest = manifest_of("count = 2\nrequired = true")
    used = use(manifest, given(tmp_path / "both", broken, sound))
    assert [each.key for each in used.inputs] == ["before"]
    assert used.notes[0].startswith("Prior before: a series is not used: ")
    assert "20250201" in used.notes[1]
    with pytest.raises(Refused) as caught:
        use(manifest, given(tmp_path / "one", broken))
    assert caught.value.code == code


def test_a_whole_series_of_another_patient_is_never_given(manifest_of, tmp_path):
    theirs = small_series(SLICES, StudyDate="20250301", PatientBirthDate="19690101")
    used = use(manifest_of(), given(tmp_path, theirs))
    assert used.inputs == ()
    assert "it is not surely of the same patient" in used.notes[0]


def test_what_is_missing_and_optional_is_told_of(manifest_of):
    manifest = manifest_of()
    sought = GivenPriors([], {"before": "pacs lists none"})
    assert use(manifest, sought).notes == ("Prior before: not used: pacs lists none.",)
    assert use(manifest, NO_PRIORS).notes == ("Prior before: not used: none was sought.",)


def test_a_required_one_that_is_missing_refuses(manifest_of):
    with pytest.raises(Refused) as caught:
        use(manifest_of("required = true"), GivenPriors([], {"before": "pacs lists none"}))
    assert (caught.value.code, caught.value.reason) == ("PRIOR_MISSING", "prior before: pacs lists none")


P1 = Patient("P1", "A", "19700101", "F")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Patient("P1", "A", "19700101", "F"), True),
        (Patient("P1", "A", "", ""), True),
        (Patient("P1", "A", "19700101", "M"), False),
        (Patient("P1", "A", "19700102", "F"), False),
        (Patient("P1", "B", "19700101", "F"), False),
        (Patient("P1", "", "19700101", "F"), True),
        (Patient("P1", "", "", "F"), False),
        (Patient("P2", "A", "19700101", "F"), False),
        (Patient("", "A", "19700101", "F"), False),
    ],
)
def test_two_are_the_same_patient_where_nothing_speaks_against_it_and_enough_for_it(other, same):
    assert P1.is_same(other) is same
    assert other.is_same(P1) is same


PATIENTS = st.builds(
    Patient,
    st.sampled_from(["", "P1", "P2"]),
    st.sampled_from(["", "A", "B"]),
    st.sampled_from(["", "19700101", "19700102"]),
    st.sampled_from(["", "F", "M"]),
)


@given_examples(PATIENTS, PATIENTS)
def test_whoever_is_the_same_patient_has_the_same_id_and_contradicts_in_nothing(one, other):
    assert one.is_same(other) is other.is_same(one)
    assert one.contradicts(other) is other.contradicts(one)
    if one.is_same(other):
        assert one.PatientID == other.PatientID != ""
        assert not one.contradicts(other)
