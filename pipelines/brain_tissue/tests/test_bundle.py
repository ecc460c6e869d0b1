"""The files of the bundle: weights, metadata, manifest."""

import json
import re
import shlex
import subprocess
import sys
import tomllib

import cel
import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from nilearn import datasets
from pydicom.sr.codedict import Code, codes

from .conftest import BUNDLE, Bundle

FACTS = {
    "series": {
        "modality": "MR",
        "description": "t1_mprage_sag_p2_iso",
        "protocol_name": "t1_mprage_sag_p2_iso",
        "body_part": "",
        "scanning_sequence": "GR\\IR",
        "sequence_variant": "SK\\SP\\MP",
        "image_type": "ORIGINAL\\PRIMARY\\M\\NORM",
        "contrast_agent": "",
        "manufacturer": "",
        "instances": 176.0,
    },
    "volume": {
        "spacing": [1.0, 1.0, 1.0],
        "shape": [176.0, 256.0, 256.0],
        "extent_mm": [176.0, 256.0, 256.0],
        "minimum": 0.0,
        "maximum": 900.0,
    },
}


def manifest():
    return tomllib.loads((BUNDLE / "pipeline.toml").read_text("utf-8"))


def first_refusal(**changes):
    facts = {part: dict(values) for part, values in FACTS.items()}
    for name, value in changes.items():
        part = "volume" if name in facts["volume"] else "series"
        facts[part][name] = value
    for rule in manifest()["require"]:
        if not cel.evaluate(rule["when"], facts):
            return rule["code"]
    return ""


def test_weights_are_small_and_complete(bundle: Bundle):
    assert (BUNDLE / "models" / "model.safetensors").stat().st_size <= 2_000_000
    assert not bundle.network.training


@pytest.mark.parametrize("name", ["inference", "train", "evaluate", "check"])
def test_configuration_can_be_read(name):
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / f"{name}.json"))
    assert "run" in parser.get()


def test_metadata_has_the_fields_of_the_schema():
    stored = json.loads((BUNDLE / "configs" / "metadata.json").read_text("utf-8"))
    required = {"version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task"}
    required |= {"required_packages_version", "description", "authors", "copyright", "network_data_format"}
    assert required <= set(stored)
    assert stored["version"] in stored["changelog"]
    assert stored["version"] == manifest()["pipeline"]["version"]
    for part in (
        stored["network_data_format"]["inputs"]["image"],
        stored["network_data_format"]["outputs"]["pred"],
    ):
        fields = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"}
        assert fields | {"channel_def"} <= set(part)
        assert len(part["channel_def"]) == part["num_channels"]


def test_codes_are_those_of_the_standard():
    names = {"csf": codes.SCT.CerebrospinalFluid, "grey_matter": codes.SCT.GrayMatter}
    names |= {"white_matter": codes.SCT.WhiteMatter}
    found = manifest()
    for number, segment in enumerate(found["segment"], start=1):
        assert segment["label"] == number
        assert Code(*segment["type"]) == names[segment["name"]]
    assert Code(*found["algorithm"]["family"]) == codes.DCM.ArtificialIntelligence
    assert {one["segment"] for one in found["measurement"]} == set(names)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"description": "anat-T1w"}, ""),
        ({"description": "Sag 3D FSPGR BRAVO"}, ""),
        ({"description": "sT1W_3D_TFE"}, ""),
        ({"description": "T1 FLASH 3D", "body_part": "HEAD"}, ""),
        ({"echo_time": 2.9, "repetition_time": 2300.0, "inversion_time": 900.0}, ""),
        ({"modality": "CT"}, "NOT_MR"),
        ({"image_type": "ORIGINAL\\PRIMARY\\LOCALIZER"}, "LOCALIZER"),
        ({"description": "3-plane loc scout"}, "LOCALIZER"),
        ({"image_type": "ORIGINAL\\PRIMARY\\P\\ND"}, "NOT_AN_IMAGE_OF_TISSUE"),
        ({"description": "t2_tse_tra"}, "DESCRIPTION_NOT_T1"),
        ({"description": "", "protocol_name": "FLAIR 3D"}, "DESCRIPTION_NOT_T1"),
        ({"description": "ep2d_diff_mddw"}, "DESCRIPTION_NOT_T1"),
        ({"description": "SWI_Images"}, "DESCRIPTION_NOT_T1"),
        ({"echo_time": 95.0}, "ECHO_TIME_NOT_T1"),
        ({"repetition_time": 9000.0, "inversion_time": 2500.0}, "REPETITION_TIME_NOT_T1"),
        ({"body_part": "CHEST"}, "NOT_A_HEAD"),
        ({"contrast_agent": "GADOVIST"}, "CONTRAST_AGENT"),
        ({"spacing": [0.5, 0.5, 5.0]}, "VOXELS_UNSUITABLE"),
        ({"extent_mm": [85.0, 256.0, 192.0]}, "FIELD_OF_VIEW_SMALL"),
        ({"extent_mm": [176.0, 256.0, 500.0]}, "FIELD_OF_VIEW_LARGE"),
        ({"maximum": 0.0}, "BLANK"),
    ],
)
def test_input_is_judged_by_its_facts(changes, code):
    facts = dict(changes)
    assert first_refusal(**facts) == code


def test_the_command_of_the_model_card_labels_a_file_on_its_own_grid(tmp_path):
    card = (BUNDLE / "docs" / "README.md").read_text("utf-8")
    command = re.search(r"^python (-m monai.bundle run .*--input T1.nii.gz .*)$", card, re.MULTILINE)[1]
    head, labels = tmp_path / "T1.nii.gz", tmp_path / "labels.nii.gz"
    nib.save(datasets.load_mni152_template(resolution=2), head)
    words = [
        {head.name: str(head), labels.name: str(labels)}.get(word, word) for word in shlex.split(command)
    ]
    subprocess.run([sys.executable, *words], cwd=BUNDLE, check=True, capture_output=True)
    given, found = nib.load(head), nib.load(labels)
    np.testing.assert_allclose(found.affine, given.affine)
    assert found.shape == given.shape
    assert set(np.unique(found.dataobj)) == {0, 1, 2, 3}
