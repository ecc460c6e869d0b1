"""Sources of every kind, with findings on their grids: label map, probability, quantity, derived image."""

from __future__ import annotations

import dataclasses

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage

from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import series_geometry
from dicomnode.model.manifest import Manifest
from tests.imaging.builders import ORIENTATIONS, mr_headers
from tests.imaging.phantoms import as_modality, multi_frame
from tests.results.conftest import asymmetric_labels
from tests.results.everything import projection_case

SHAPE = (5, 12, 10)
GRIDS = {name: {"orientation": axes} for name, axes in ORIENTATIONS.items()} | {"tilt": {"slant": (0.9, 0.0)}}
VOLUMES = [*GRIDS, "CT", "PET", "enhanced CT", "enhanced MR"]
SOURCES = [*VOLUMES, "projection"]
_KEPT_OF_MR = (
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime"),
    *("EchoTime", "EchoTrainLength", "InversionTime"),
)


def source(name: str) -> tuple[Findings, tuple[Dataset, ...]]:
    """Findings with the maps of `manifest_of_maps`, and the headers that they are on, one a plane."""
    if name == "projection":
        findings, headers = projection_case()
        return _with_maps(findings, asymmetric_labels(findings.geometry.shape)), headers
    headers = mr_headers(shape=SHAPE, **GRIDS.get(name, {}))
    if name in ("CT", "PET", "enhanced CT"):
        headers = as_modality(headers, "PT" if name == "PET" else "CT")
        for ds in headers:
            _make_plausible(ds)
    if name.startswith("enhanced"):
        kind = EnhancedCTImageStorage if name == "enhanced CT" else EnhancedMRImageStorage
        headers = [multi_frame(headers[::-1], kind)]
    geometry, ordered = series_geometry(headers)
    return _with_maps(Findings(asymmetric_labels(geometry.shape), geometry), None), ordered


def manifest_of_maps(manifest: Manifest, unit: tuple[str, str, str] = ("1", "UCUM", "no units")) -> Manifest:
    """The same pipeline, which leaves three maps as well."""
    quantity = ("110852", "DCM", "MR signal intensity")
    declared = [
        {"name": "chance", "title": "Chance", "use": "fractional", "segment": "csf"},
        {"name": "t1", "title": "T1", "use": "parametric", "quantity": quantity, "unit": unit},
        {"name": "clean", "title": "Denoised", "use": "derived", "quantity": quantity, "unit": unit},
    ]
    return Manifest.model_validate({**manifest.model_dump(), "map": declared})


def by_name(manifest: Manifest, name: str):
    return next(each for each in manifest.map if each.name == name)


def _with_maps(findings: Findings, labels: np.ndarray | None) -> Findings:
    shape, random = findings.geometry.shape, np.random.default_rng(5)
    maps = {
        "chance": random.random(shape, np.float32),
        "t1": random.normal(800, 300, shape).astype(np.float32),
        "clean": random.normal(100, 70, shape).astype(np.float32),
    }
    labels = findings.labels if labels is None else np.where(labels == 2, 2, labels)
    return dataclasses.replace(findings, labels=labels, maps=maps, marks=(), answers={}, values={})


def _make_plausible(ds: Dataset) -> None:
    """What a CT or a PET image has and an MR image has not."""
    for keyword in _KEPT_OF_MR:
        delattr(ds, keyword)
    ds.AcquisitionNumber = 1
    if ds.Modality == "CT":
        ds.KVP, ds.ImageType = "120", ["ORIGINAL", "PRIMARY", "AXIAL"]
        return
    ds.ImageType, ds.Units, ds.CountsSource = ["ORIGINAL", "PRIMARY"], "BQML", "EMISSION"
    ds.SeriesType, ds.DecayCorrection = ["WHOLE BODY", "IMAGE"], "START"
    ds.DecayFactor, ds.CollimatorType, ds.CorrectedImage = "1.1", "NONE", ["DECY", "ATTN"]
    ds.FrameReferenceTime, ds.ActualFrameDuration = "1000", "60000"
    ds.AcquisitionDate, ds.AcquisitionTime = "20260102", "101112"
    ds.AttenuationCorrectionMethod = "measured"
