"""What dciodvfy refuses is held and its place named; what the source itself says wrongly is no reason."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.model.result import EncodedResult
from dicomnode.results.conformance import Validation, find_dciodvfy
from dicomnode.results.encode import encode_results
from tests.conftest import NOT_RUN_HERE
from tests.results.opened import changed
from tests.results.test_encode import case

LONG = "SIXTEEN IS ENOUGH FOR A STUDY ID"


def require_valid(results: Iterable[EncodedResult], source: Dataset) -> None:
    with Validation(source) as validation:
        for each in results:
            validation.begin(each)
        validation.finish()


@pytest.fixture(autouse=True)
def _dciodvfy():
    if find_dciodvfy() is None:
        pytest.skip(f"{NOT_RUN_HERE}dciodvfy")


def test_an_error_of_ours_holds_the_results_and_is_named_without_its_value(manifest, provenance):
    def change(ds):
        ds.CompletionFlag = "SECRET"

    findings, headers = case("axial")
    seg, sr = encode_results(findings, headers, manifest, provenance)
    with pytest.raises(GateFailed, match="1 errors in the SR, the first in CompletionFlag") as held:
        require_valid([seg, changed(sr, change)], headers[0])
    assert "SECRET" not in str(held.value)


@pytest.mark.filterwarnings("ignore")
def test_an_error_that_the_source_has_already_is_no_reason_to_hold_a_result(manifest, provenance):
    findings, headers = case("axial")
    for ds in headers:
        ds.StudyID = LONG
    results = encode_results(findings, headers, manifest, provenance)
    require_valid(results, headers[0])

    def change(ds):
        ds.StudyID = LONG + " AND LONGER"

    with pytest.raises(GateFailed, match="the first in StudyID"):
        require_valid([changed(results[0], change)], headers[0])
