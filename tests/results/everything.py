"""A pipeline that finds one of everything, on a grid and on a projection, for the tests of the results."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, EnhancedMRImageStorage

from dicomnode.imaging.findings import Findings, MarkFound
from dicomnode.imaging.geometry import Geometry, series_geometry
from dicomnode.imaging.preview import preview_of
from dicomnode.imaging.projection import image_geometry
from dicomnode.imaging.statistics import segment_statistics
from dicomnode.model.manifest import Manifest
from tests.imaging.builders import AXIAL, mr_headers
from tests.imaging.phantoms import multi_frame

SHAPE = (7, 40, 48)
EVERY_KIND = ("SEG", "SR", "KOS", "PR", "SC", "RTSTRUCT", "PDF")
"""The roles of what is made of segments, marks and answers; maps have tests of their own."""
WITHOUT_A_PLACE = tuple(role for role in EVERY_KIND if role != "RTSTRUCT")
"""The same of a projection."""
_STRUCTURE = ["123037004", "SCT", "Anatomical Structure"]
_ABNORMAL = ["49755003", "SCT", "Morphologically Abnormal Structure"]
_MM = ["mm", "UCUM", "millimeter"]
_SIGNAL = ["1", "UCUM", "no units"]


def manifest_of_everything(*outputs: str, **changes: object) -> Manifest:
    """Liver, spleen and cyst, nodules, diameters, lesions and stones; no cyst and no stone is ever found."""
    declared = {
        "pipeline": {
            "name": "everything",
            "version": "2.1",
            "title": "Everything at once",
            "input": "volume",
            "outputs": list(outputs) or ["SEG", "SR"],
            "time_limit_s": 60,
            "memory_mb": 1000,
            "weights": "model.safetensors",
        },
        "algorithm": {"name": "Net", "family": ["123110", "DCM", "Artificial Intelligence"]},
        "segment": [
            _segment(1, "liver", "Liver", "10200004", [220, 120, 60]),
            _segment(2, "spleen", "Spleen", "78961009", [90, 160, 250], same_finding="patient"),
            _segment(3, "cyst", "Cyst", "441457006", [250, 230, 80], category=_ABNORMAL),
        ],
        "mark": [
            _mark("nodule", "Nodule", "point", "27925004", [255, 60, 60]),
            _mark("diameter", "Diameter", "polyline", "4147007", [60, 255, 60]),
            _mark("lesion", "Lesion", "polygon", "52988006", [60, 255, 255]),
            _mark("stone", "Stone", "point", "56381008", [255, 60, 255]),
        ],
        "question": [
            {
                "name": "quality",
                "code": ["111052", "DCM", "Quality Finding"],
                "choice": [
                    {"name": "good", "code": ["20572008", "SCT", "Good"]},
                    {"name": "poor", "code": ["11403006", "SCT", "Poor"]},
                ],
            }
        ],
        "value": [{"name": "age"}],
        "measurement": _measurements(),
    }
    return Manifest.model_validate({**declared, **changes})


def findings_on(geometry: Geometry, planes: int) -> Findings:
    """Blobs that no flip, turn or shift leaves as they are, one with a hole; marks in and across planes."""
    labels = _labels((planes, *geometry.shape[1:]))
    image = labels * np.float32(80) + np.arange(labels.size, dtype=np.float32).reshape(labels.shape) % 97
    segments = {"liver": 1, "spleen": 2, "cyst": 3}
    middle = planes // 2
    across = [[0, 5.5, 6], [planes - 1, 20, 22.25]] if planes > 1 else [[0, 5.5, 6], [0, 20, 22.25]]
    marks = (
        MarkFound("nodule", np.array([[middle, 12.0, 9.5]]), 0.875),
        MarkFound("nodule", np.array([[0, 30.0, 33.0]]), 0.25),
        MarkFound("diameter", np.array([[middle, 4.0, 4.0], [middle, 4.0, 14.0]])),
        MarkFound("diameter", np.array(across)),
        MarkFound(
            "lesion", np.array([[middle, 8, 8], [middle, 8, 18], [middle, 16.5, 18], [middle, 16.5, 8.0]])
        ),
    )
    return Findings(
        labels=labels,
        geometry=geometry,
        statistics=segment_statistics(image, labels, geometry, segments),
        values={"age": 61.5},
        marks=marks,
        answers={"quality": "good"},
        preview=preview_of(image, labels),
    )


def volume_case(orientation: object = AXIAL) -> tuple[Findings, tuple[Dataset, ...]]:
    """On an MR series."""
    geometry, headers = series_geometry(mr_headers(orientation, SHAPE))
    return findings_on(geometry, SHAPE[0]), headers


def multi_frame_case() -> tuple[Findings, tuple[Dataset, ...]]:
    """On one Enhanced MR instance, whose frames are not in the order of the slices."""
    geometry, headers = series_geometry([multi_frame(mr_headers(AXIAL, SHAPE)[::-1], EnhancedMRImageStorage)])
    return findings_on(geometry, SHAPE[0]), headers


def nothing_found(findings: Findings) -> Findings:
    """The same run, had it found nothing."""
    labels = np.zeros_like(findings.labels)
    empty = segment_statistics(
        labels.astype(np.float32), labels, findings.geometry, {"liver": 1, "spleen": 2, "cyst": 3}
    )
    return replace(findings, labels=labels, statistics=empty, marks=())


def with_name(name: str, character_set: str | list[str]) -> tuple[Findings, tuple[Dataset, ...]]:
    """The same, of a patient of this name in this character set."""
    sources = mr_headers(AXIAL, SHAPE)
    for ds in sources:
        ds.SpecificCharacterSet, ds.PatientName = character_set, name
    geometry, headers = series_geometry(_through_a_file(sources))
    return findings_on(geometry, SHAPE[0]), headers


def projection_case(in_mm: bool = True) -> tuple[Findings, tuple[Dataset, ...]]:
    """On a chest radiograph, which has no place in the patient."""
    header = mr_headers(shape=SHAPE)[0]
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "FrameOfReferenceUID",
        "SliceThickness",
    ):
        delattr(header, keyword)
    if not in_mm:
        del header.PixelSpacing
    header.SOPClassUID, header.Modality = DigitalXRayImageStorageForPresentation, "DX"
    geometry, headers = image_geometry([header])
    return findings_on(geometry, 1), headers


def _through_a_file(sources: list[Dataset]) -> list[Dataset]:
    """As they are read: names are bytes in the source's character set."""
    read = []
    for ds in sources:
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, ds, implicit_vr=False, little_endian=True, force_encoding=True)
        buffer.seek(0)
        read.append(pydicom.dcmread(buffer, force=True))
    return read


def _labels(shape: tuple[int, int, int]) -> np.ndarray:
    planes, rows, columns = np.indices(shape)
    middle = shape[0] // 2
    labels = np.zeros(shape, np.uint8)
    reach = 12 - 2 * np.abs(planes - middle)
    labels[(rows - 24) ** 2 + (columns - 18) ** 2 < reach**2] = 1
    labels[(rows - 22) ** 2 + (columns - 17) ** 2 < 9] = 0
    labels[(np.abs(rows - 10) < 4) & (np.abs(columns - 38) < 6) & (planes >= middle)] = 2
    labels[middle, 30:33, 40:44] = 2
    return labels


def _segment(
    label: int, name: str, title: str, code: str, color: list[int], **others: object
) -> dict[str, object]:
    declared = {
        "label": label,
        "name": name,
        "title": title,
        "category": _STRUCTURE,
        "type": [code, "SCT", title],
        "color": color,
    }
    return {**declared, **others}


def _mark(name: str, title: str, shape: str, code: str, color: list[int]) -> dict[str, object]:
    return {
        "name": name,
        "title": title,
        "shape": shape,
        "category": _ABNORMAL,
        "type": [code, "SCT", title],
        "color": color,
    }


def _measurements() -> list[dict[str, object]]:
    volume = {
        "quantity": "volume",
        "code": ["118565006", "SCT", "Volume"],
        "unit": ["ml", "UCUM", "milliliter"],
    }
    signal = {"code": ["110804", "DCM", "T1 Weighted MR Signal Intensity"], "unit": _SIGNAL}
    probability = {"code": ["122157", "DCM", "Probability"], "unit": ["%", "UCUM", "percent"]}
    return [
        *({"segment": name, **volume} for name in ("liver", "spleen", "cyst")),
        {"segment": "liver", "quantity": "mean", **signal},
        {"segment": "liver", "quantity": "sd", **signal},
        {"segment": "cyst", "quantity": "mean", **signal},
        {"mark": "nodule", "quantity": "probability", **probability},
        {"mark": "diameter", "quantity": "length", "code": ["410668003", "SCT", "Length"], "unit": _MM},
        {
            "mark": "lesion",
            "quantity": "area",
            "code": ["42798000", "SCT", "Area"],
            "unit": ["mm2", "UCUM", "square millimeter"],
        },
        {
            "value": "age",
            "quantity": "value",
            "code": ["397669002", "SCT", "Age"],
            "unit": ["a", "UCUM", "year"],
        },
    ]
