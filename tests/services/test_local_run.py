"""A folder through a pipeline: of several stacks the chosen one alone is measured and referred to."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import SegmentationStorage

from dicomnode.config import Config
from dicomnode.errors import NotFound, Refused
from dicomnode.model.profile import PROFILES
from dicomnode.pipeline.registry import open_pipeline
from dicomnode.rules.rule import check_rule
from dicomnode.services.local_run import run_folder
from tests.harness.heads import small_series, write_series
from tests.harness.toy_pipeline import PRIOR, with_prior, write_toy_pipeline

FIRST_ECHO, SECOND_ECHO = 3.0, 92.0


@pytest.fixture
def pipeline(tmp_path):
    def make(rule):
        folder = write_toy_pipeline(tmp_path / "pipelines")
        with (folder / "pipeline.toml").open("a") as file:
            file.write(f"\n[select]\nwhen = '{rule}'\n")
        return open_pipeline(folder, check_rule)

    return make


@pytest.fixture
def two_echoes(tmp_path):
    """One series of two echoes in the same places; what is bright lies elsewhere in the second."""
    first = small_series()
    uids = {keyword: first[0][keyword].value for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID")}
    second = small_series(
        StudyInstanceUID=first[0].StudyInstanceUID, EchoTime=SECOND_ECHO, EchoNumbers=2, **uids
    )
    for ds in second:
        ds.PixelData = ds.pixel_array[::-1].astype("<u2").tobytes()
    write_series(tmp_path / "series", [ds for pair in zip(first, second, strict=True) for ds in pair])
    return {FIRST_ECHO: first, SECOND_ECHO: second}


@pytest.mark.parametrize(
    ("rule", "meant"),
    [("stack.echo_time > 50.0", SECOND_ECHO), ("stack.echo_time < 50.0", FIRST_ECHO)],
)
def test_the_results_lie_on_the_chosen_echo_and_refer_to_it_alone(
    pipeline, two_echoes, tmp_path, rule, meant
):
    folder, out = tmp_path / "series", tmp_path / "out"
    written = run_folder(Config(), pipeline(rule), folder, out, "cpu", PROFILES["generic"])
    seg = next(ds for ds in map(dcmread, written.files) if ds.SOPClassUID == SegmentationStorage)
    sources = {str(ds.SOPInstanceUID): ds for ds in two_echoes[meant]}
    seen = set()
    for mask, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = sources[groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert groups.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        np.testing.assert_array_equal(mask, source.pixel_array > 500)
        seen.add(str(source.SOPInstanceUID))
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert seen == referenced == set(sources)


@pytest.mark.usefixtures("two_echoes")
def test_a_choice_that_no_stack_meets_is_refused_with_what_there_is(pipeline, tmp_path):
    with pytest.raises(Refused) as refused:
        run_folder(
            Config(),
            pipeline("stack.echo_time > 200.0"),
            tmp_path / "series",
            tmp_path / "out",
            "cpu",
            PROFILES["generic"],
        )
    assert "echo" in refused.value.reason


def test_a_prior_in_a_folder_is_given_as_a_job_is_given_it(tmp_path):
    with_prior(PRIOR.format(more="required = true"))(write_toy_pipeline(tmp_path / "pipelines"))
    pipeline = open_pipeline(tmp_path / "pipelines" / "toy", check_rule)
    write_series(tmp_path / "now", small_series())
    before = small_series(StudyDate="20250301")
    write_series(tmp_path / "before", before)
    arguments = (Config(), pipeline, tmp_path / "now", tmp_path / "out", "cpu", PROFILES["generic"])
    written = run_folder(*arguments, [("before", tmp_path / "before")])
    report = next(ds for ds in map(dcmread, written.files) if "PertinentOtherEvidenceSequence" in ds)
    (study,) = report.PertinentOtherEvidenceSequence
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == before[0].SeriesInstanceUID
    with pytest.raises(Refused, match="prior before: none was sought"):
        run_folder(*arguments)
    with pytest.raises(NotFound):
        run_folder(*arguments, [("after", tmp_path / "before")])
