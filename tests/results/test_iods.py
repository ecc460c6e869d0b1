"""What is told of results before any is made is what they are."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicomnode.model.profile import PROFILES, Profile
from dicomnode.model.result import ResultReference, ResultRole
from dicomnode.results.encode import encode_results
from dicomnode.results.iods import IODS, TEMPLATES, iods_of, iods_of_every_pipeline
from dicomnode.results.notice import encode_notice
from dicomnode.results.withdrawal import encode_withdrawal
from tests.imaging.builders import mr_headers
from tests.results.opened import case, read, results
from tests.results.sources import manifest_of_maps, source

LABEL_MAP = Profile(segmentation="LABELMAP")
NO_SEGMENTATION = Profile(takes=frozenset({ResultRole.SR}), picture_for_seg=True)
WITH_PICTURE = Profile(picture_for_notice=True)
MAPS = ("SEG", "SR", "PM", "DERIVED")


def told(iods):
    return {(role, iod.SOPClassUID, syntax) for role, iod in iods for syntax in iod.TransferSyntaxUIDs}


def made(encoded):
    return {(each.role, each.SOPClassUID, each.TransferSyntaxUID) for each in encoded}


def of_maps(name, manifest, provenance):
    findings, headers = source(name)
    manifest = manifest_of_maps(manifest)
    pipeline = manifest.pipeline.model_copy(update={"outputs": tuple(map(ResultRole, MAPS))})
    manifest = manifest.model_copy(update={"pipeline": pipeline})
    return manifest, encode_results(findings, headers, manifest, provenance)


def every_role(provenance):
    """All that is made of one of everything, in several forms."""
    for name in ("volume", "projection"):
        for profile in (PROFILES["generic"], LABEL_MAP, NO_SEGMENTATION):
            findings, headers, manifest = case(name)
            yield manifest, profile, encode_results(findings, headers, manifest, provenance, profile)


def test_every_result_is_of_a_class_and_in_a_transfer_syntax_that_were_told(provenance):
    everything, expected = set(), set()
    for manifest, profile, encoded in every_role(provenance):
        assert made(encoded) <= told(iods_of(manifest, profile))
        everything |= made(encoded)
        expected |= told(iods_of(manifest, profile))
    # A label map that run lengths would make larger is left as it is; none of these is.
    assert {each for each in expected - everything if each[2] != "1.2.840.10008.1.2.1"} == set()
    assert {each[:2] for each in expected} == {each[:2] for each in everything}


def test_every_map_is_of_a_class_that_was_told(manifest, provenance):
    everything, expected = set(), set()
    for name in ("CT", "PET", "enhanced MR"):
        with_maps, encoded = of_maps(name, manifest, provenance)
        assert made(encoded) <= told(iods_of(with_maps, PROFILES["generic"]))
        everything |= made(encoded)
        expected |= told(iods_of(with_maps, PROFILES["generic"]))
    assert everything == expected


def test_what_comes_in_the_place_of_results_was_told(provenance):
    headers = mr_headers()
    notice = encode_notice(headers, None, provenance, "CODE", "a reason", WITH_PICTURE, "pipeline")
    earlier = [
        ResultReference(
            each.role, each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPClassUID, each.SOPInstanceUID
        )
        for each in notice
    ]
    withdrawal = encode_withdrawal(earlier, headers[0], provenance)
    assert made([*notice, withdrawal]) == told(iods_of_every_pipeline(WITH_PICTURE))
    assert told(iods_of_every_pipeline(Profile(takes=frozenset()))) == set()


def test_every_role_has_its_classes_and_every_class_its_modality(provenance):
    assert set(IODS) == set(ResultRole)
    modalities = {(iod.SOPClassUID, iod.Modality) for iods in IODS.values() for iod in iods}
    for encoded in results("volume", "generic", provenance).values():
        ds = read(encoded)
        assert (ds.SOPClassUID, ds.Modality) in modalities


def test_every_template_that_a_result_names_was_told(provenance):
    named = set()
    for form in ("generic", "ohif3"):
        for name in ("volume", "nothing"):
            for encoded in results(name, form, provenance).values():
                named |= templates_in(read(encoded))
    assert named <= set(TEMPLATES)
    assert set(TEMPLATES) - named <= {"1501"}, "1501 is for a report without a Segmentation"


def templates_in(ds: Dataset) -> set[str]:
    found = {item.TemplateIdentifier for item in ds.get("ContentTemplateSequence", [])}
    return found.union(*(templates_in(item) for item in ds.get("ContentSequence", [])))
