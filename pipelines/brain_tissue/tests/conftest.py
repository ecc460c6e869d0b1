"""The bundle as its own configuration describes it, loaded once for all tests."""

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from nilearn import datasets

BUNDLE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(BUNDLE))

DATA = BUNDLE.parents[2] / "shared" / "data"


class Bundle:
    """Network, transforms and inferer of configs/inference.json with the committed weights."""

    def __init__(self) -> None:
        from scripts.segmenting import load_weights, without_loading

        torch.set_num_threads(2)
        parser = ConfigParser()
        parser.read_config(str(BUNDLE / "configs" / "inference.json"))
        parser["bundle_root"] = str(BUNDLE)
        parser.parse()
        self.network = load_weights(
            parser.get_parsed_content("network_def"), str(BUNDLE / "models" / "model.safetensors")
        )
        self.preprocessing = without_loading(parser.get_parsed_content("preprocessing"))
        self.inferer = parser.get_parsed_content("inferer")
        self.postprocessing = parser.get_parsed_content("postprocessing")

    def run(self, image: np.ndarray, affine: np.ndarray) -> dict[str, Any]:
        """Labels and values of a volume (X, Y, Z) with its affine in RAS mm."""
        from scripts.segmenting import segment

        volume = MetaTensor(
            torch.from_numpy(image.astype(np.float32).copy()), affine=torch.from_numpy(affine)
        )
        return segment(self.network, self.preprocessing, self.inferer, self.postprocessing, volume)

    def verdict(self, image: np.ndarray, affine: np.ndarray) -> tuple[str, np.ndarray]:
        """The code with which the manifest refuses the result, or "", and the labels (X, Y, Z)."""
        from scripts.checks import facts_of, refusal

        found = self.run(image, affine)
        labels = np.asarray(found["pred"][0], dtype=np.uint8)
        values = {key: value for key, value in found.items() if isinstance(value, float)}
        return refusal(facts_of(labels, image, affine, values), BUNDLE / "pipeline.toml"), labels


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle()


@pytest.fixture(scope="session")
def template() -> tuple[np.ndarray, np.ndarray]:
    """The MNI152 template without skull, at 2 mm so that the tests stay quick: voxels and affine."""
    stored: nib.Nifti1Image = datasets.load_mni152_template(resolution=2)
    return np.asarray(stored.dataobj, dtype=np.float32), np.asarray(stored.affine)


@pytest.fixture(scope="session")
def template_result(bundle: Bundle, template: tuple[np.ndarray, np.ndarray]) -> tuple[str, np.ndarray]:
    return bundle.verdict(*template)


@pytest.fixture(scope="session")
def real_head() -> tuple[Path, Path]:
    """The real head beside the checkout and its reference labels."""
    head, reference = DATA / "mr-head-t1", DATA / "mr-head-t1-reference.nii.gz"
    if not (head.is_dir() and reference.is_file()):
        pytest.skip("not run here: the real head is not beside the checkout (../shared/data)")
    return head, reference
