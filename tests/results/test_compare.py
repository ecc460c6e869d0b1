"""What two versions of a pipeline make of one series is compared by what it means, whatever its form."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomnode.imaging.findings import Findings
from dicomnode.imaging.statistics import segment_statistics
from dicomnode.model.comparison import Side
from dicomnode.model.manifest import Manifest
from dicomnode.model.profile import PROFILES, Profile
from dicomnode.results.compare_seg import compare_segments
from dicomnode.results.compare_sr import compare_reports
from dicomnode.results.encode import encode_results
from tests.results.everything import manifest_of_everything, projection_case, volume_case

LIVER, SPLEEN, CYST = 1, 2, 3
FORMS = {"binary": Profile(), "label map": Profile(segmentation="LABELMAP"), "viewer": PROFILES["ohif3"]}


def encoded(findings: Findings, headers, manifest: Manifest, provenance, form: str) -> dict[str, Dataset]:
    made = encode_results(findings, headers, manifest, provenance, FORMS[form])
    return {result.role: pydicom.dcmread(io.BytesIO(result.data)) for result in made}


def otherwise(findings: Findings) -> Findings:
    """What another version finds: a thinner liver, the same spleen, a cyst, one nodule, worse quality."""
    labels = findings.labels.copy()
    labels[:, :, :14][labels[:, :, :14] == LIVER] = 0
    labels[3, 2:5, 2:6] = CYST
    image = np.full(labels.shape, 50, np.float32)
    names = {"liver": LIVER, "spleen": SPLEEN, "cyst": CYST}
    return replace(
        findings,
        labels=labels,
        statistics=segment_statistics(image, labels, findings.geometry, names),
        marks=findings.marks[1:],
        values={"age": 58.5},
        answers={"quality": "poor"},
    )


def renumbered(findings: Findings, manifest: Manifest) -> tuple[Findings, Manifest]:
    """The same in other numbers: what a segment is called by its bundle is of no account."""
    new = np.array([0, 7, 3, 5], np.uint8)
    told = manifest.model_dump()
    for segment in told["segment"]:
        segment["label"] = int(new[segment["label"]])
    told["segment"] = told["segment"][::-1]
    return replace(findings, labels=new[findings.labels]), Manifest.model_validate(told)


def numpy_dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize(("ours", "theirs"), [("binary", "viewer"), ("viewer", "label map")])
def test_segments_overlap_by_their_codes_as_their_arrays_do(provenance, ours, theirs):
    findings, headers = volume_case()
    manifest, other = manifest_of_everything(), otherwise(findings)
    active = encoded(findings, headers, manifest, provenance, ours)["SEG"]
    shadow = encoded(*_between(renumbered(other, manifest), headers), provenance, theirs)["SEG"]
    told = {each.segment: each for each in compare_segments(active, shadow)}
    assert list(told) == ["Liver", "Spleen", "Cyst"]
    expected = numpy_dice(findings.labels == LIVER, other.labels == LIVER)
    assert 0.2 < expected < 0.95
    assert told["Liver"].dice == expected
    voxel_ml = findings.geometry.voxel_ml
    assert told["Liver"].active_ml == pytest.approx((findings.labels == LIVER).sum() * voxel_ml, rel=1e-6)
    assert told["Liver"].shadow_ml == pytest.approx((other.labels == LIVER).sum() * voxel_ml, rel=1e-6)
    assert (told["Spleen"].dice, told["Cyst"].dice) == (1.0, 0.0)
    assert {each.only_in for each in told.values()} == {None}


def _between(pair, headers):
    findings, manifest = pair
    return findings, headers, manifest


def test_a_segment_that_one_side_alone_declares_has_no_dice_and_one_without_a_voxel_neither(provenance):
    findings, headers = volume_case()
    manifest = manifest_of_everything()
    without = manifest.model_dump()
    without["segment"] = [each for each in without["segment"] if each["name"] != "spleen"]
    without["measurement"] = [each for each in without["measurement"] if each["segment"] != "spleen"]
    no_spleen = np.where(findings.labels == SPLEEN, 0, findings.labels)
    shadow = encoded(
        replace(findings, labels=no_spleen), headers, Manifest.model_validate(without), provenance, "binary"
    )
    active = encoded(findings, headers, manifest, provenance, "binary")
    told = {each.segment: each for each in compare_segments(active["SEG"], shadow["SEG"])}
    assert (told["Spleen"].only_in, told["Spleen"].dice, told["Spleen"].shadow_ml) == (
        Side.ACTIVE,
        None,
        None,
    )
    assert (told["Cyst"].only_in, told["Cyst"].dice, told["Cyst"].active_ml) == (None, None, 0.0)
    numbers = {(each.of, each.quantity): each for each in compare_reports(active["SR"], shadow["SR"]).numbers}
    volume = numbers["Spleen", "Volume"]
    assert (volume.shadow, volume.difference, volume.percent) == (None, None, None)


def test_segments_of_the_same_codes_are_told_apart_by_their_labels(provenance):
    findings, headers = volume_case()
    told = manifest_of_everything().model_dump()
    told["segment"][1]["type"] = told["segment"][0]["type"]
    results = encoded(findings, headers, Manifest.model_validate(told), provenance, "binary")
    segments = compare_segments(results["SEG"], results["SEG"])
    assert [(each.segment, each.dice) for each in segments] == [
        ("Liver: Liver", 1.0),
        ("Liver: Spleen", 1.0),
        ("Cyst", None),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_reports_differ_in_numbers_findings_and_answers(provenance, form):
    findings, headers = volume_case()
    manifest, other = manifest_of_everything(), otherwise(findings)
    active = encoded(findings, headers, manifest, provenance, form)["SR"]
    shadow = encoded(*_between(renumbered(other, manifest), headers), provenance, "binary")["SR"]
    told = compare_reports(active, shadow)
    numbers = {(each.of, each.quantity): each for each in told.numbers}
    age = numbers["whole input", "Age"]
    assert (age.active, age.shadow, age.difference, age.unit) == (61.5, 58.5, -3.0, "a")
    assert age.percent == pytest.approx(-300 / 61.5)
    lost = ((findings.labels == LIVER).sum() - (other.labels == LIVER).sum()) * findings.geometry.voxel_ml
    assert numbers["Liver", "Volume"].difference == pytest.approx(-lost, rel=1e-5)
    assert numbers["Spleen", "Volume"].difference == 0
    assert numbers["Cyst", "T1 Weighted MR Signal Intensity, Mean"].active is None
    assert ("Nodule", "Probability") not in numbers, "of two and one nobody knows which is which"
    assert numbers["Lesion", "Area"].difference == 0
    assert {(each.finding, each.active, each.shadow) for each in told.findings} == {
        ("Nodule", 2, 1),
        ("Cyst", 0, 1),
    }
    assert [(each.question, each.active, each.shadow) for each in told.answers] == [
        ("Quality Finding", "Good", "Poor")
    ]


def test_of_a_projection_the_masks_are_compared_and_no_volume_is_told(provenance):
    findings, headers = projection_case()
    other = replace(findings, labels=np.roll(findings.labels, 2, axis=2))
    manifest = manifest_of_everything()
    seg, moved = (encoded(each, headers, manifest, provenance, "binary")["SEG"] for each in (findings, other))
    liver, *_ = compare_segments(seg, moved)
    assert liver.dice == numpy_dice(findings.labels == LIVER, other.labels == LIVER)
    assert (liver.active_ml, liver.shadow_ml) == (None, None)
