"""Facts about a series, a study and a volume, as rules and conditions see them; read, never judged.

A text that is missing is ""; a number that is missing has no key. Nothing here raises on a malformed value.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import TypeAlias

from pydicom.dataset import Dataset

from dicomnode.imaging.elements import number_of, numbers_of, text_of
from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.planes import first_plane
from dicomnode.imaging.volume import Volume

Facts: TypeAlias = dict[str, str | float | int]

_SERIES_TEXTS = {
    "modality": "Modality",
    "description": "SeriesDescription",
    "protocol_name": "ProtocolName",
    "body_part": "BodyPartExamined",
    "scanning_sequence": "ScanningSequence",
    "sequence_variant": "SequenceVariant",
    "image_type": "ImageType",
    "contrast_agent": "ContrastBolusAgent",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "laterality": "Laterality",
    "sop_class": "SOPClassUID",
}
_SERIES_NUMBERS = {
    "echo_time": "EchoTime",
    "repetition_time": "RepetitionTime",
    "inversion_time": "InversionTime",
    "flip_angle": "FlipAngle",
    "slice_thickness": "SliceThickness",
}
SERIES_FACTS: Mapping[str, object] = {
    **dict.fromkeys((*_SERIES_TEXTS, "transfer_syntax"), ""),
    **dict.fromkeys((*_SERIES_NUMBERS, "pixel_spacing"), 1.0),
    **dict.fromkeys(("instances", "frames", "rows", "columns"), 1),
}
"""The names that `series_facts` can yield, each with a value of its type."""
STUDY_FACTS: Mapping[str, object] = {
    **dict.fromkeys(("description", "accession_number", "patient_sex", "date", "institution"), ""),
    "patient_age": 1.0,
}
"""The names that `study_facts` can yield, each with a value of its type."""
VOLUME_FACTS: Mapping[str, object] = {
    "spacing": [1.0, 1.0, 1.0],
    "extent_mm": [1.0, 1.0, 1.0],
    "shape": [1, 1, 1],
    **dict.fromkeys(("minimum", "maximum"), 1.0),
}
"""The names that `volume_facts` can yield, each with a value of its type."""
_DAYS_PER_UNIT = {"Y": 365.25, "M": 365.25 / 12, "W": 7.0, "D": 1.0}


def series_facts(ds: Dataset, instances: int) -> Facts:
    """What one header of a series of `instances` instances says; times in ms, lengths in mm, angles in °.

    `pixel_spacing` is the larger of the two; `laterality` falls back to ImageLaterality (PS3.3 C.7.3.1). Of a
    multi-frame instance the first frame speaks.
    """
    frames = int(number_of(ds, "NumberOfFrames") or 1)
    ds = first_plane(ds)
    facts: Facts = {name: text_of(ds, keyword) for name, keyword in _SERIES_TEXTS.items()}
    facts["laterality"] = facts["laterality"] or text_of(ds, "ImageLaterality")
    facts["transfer_syntax"] = text_of(getattr(ds, "file_meta", Dataset()), "TransferSyntaxUID")
    facts["instances"] = instances
    facts["frames"] = frames
    for name, keyword in _SERIES_NUMBERS.items():
        if (number := number_of(ds, keyword)) is not None:
            facts[name] = number
    for name, keyword in {"rows": "Rows", "columns": "Columns"}.items():
        if (number := number_of(ds, keyword)) is not None:
            facts[name] = int(number)
    if spacing := numbers_of(ds, "PixelSpacing", 2):
        facts["pixel_spacing"] = max(spacing)
    return facts


def study_facts(ds: Dataset) -> Facts:
    """What one header says of its study; `patient_age` in years, from PatientAge or the date of birth."""
    facts: Facts = {
        "description": text_of(ds, "StudyDescription"),
        "accession_number": text_of(ds, "AccessionNumber"),
        "patient_sex": text_of(ds, "PatientSex"),
        "date": text_of(ds, "StudyDate"),
        "institution": text_of(ds, "InstitutionName"),
    }
    age = _stated_age(text_of(ds, "PatientAge"))
    if age is None:
        age = _age_on(_date(text_of(ds, "PatientBirthDate")), _date(text_of(ds, "StudyDate")))
    if age is not None:
        facts["patient_age"] = age
    return facts


def volume_facts(volume: Volume | Geometry) -> dict[str, list[float] | list[int] | float]:
    """`spacing` (row, column, slice; mm), `shape` and `extent_mm` (along slices, down rows, along columns);
    of a Volume also `minimum` and `maximum` of its values."""
    geometry = volume.geometry if isinstance(volume, Volume) else volume
    row, column, between = geometry.spacing
    slices, rows, columns = geometry.shape
    facts: dict[str, list[float] | list[int] | float] = {
        "spacing": list(geometry.spacing),
        "shape": list(geometry.shape),
        "extent_mm": [slices * between, rows * row, columns * column],
    }
    if isinstance(volume, Volume):
        facts["minimum"] = float(volume.array.min())
        facts["maximum"] = float(volume.array.max())
    return facts


def _stated_age(text: str) -> float | None:
    """Years of an Age String such as 034Y or 006W (PS3.5 6.2)."""
    digits, unit = text[:-1], text[-1:]
    if not (digits.isascii() and digits.isdigit()) or unit not in _DAYS_PER_UNIT:
        return None
    return int(digits) * _DAYS_PER_UNIT[unit] / 365.25


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


def _age_on(born: date | None, day: date | None) -> float | None:
    if born is None or day is None or day < born:
        return None
    return (day - born).days / 365.25
