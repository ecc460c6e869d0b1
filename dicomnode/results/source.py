"""What a result takes over from its source: identity as it stands, and a clean grid to encode on.

highdicom validates and rewrites what it copies (a sex that is no defined term, an age without its zeros).
Identity must arrive as it was sent, so highdicom gets stand-ins with an empty identity, and the source's own
elements are put in afterwards.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.imaging.elements import number_of, text_of
from dicomnode.imaging.geometry import Geometry, image_position, pixel_spacing, plane_axes

PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)
"""Patient (PS3.3 C.7.1.1)."""
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
)
"""General Study (PS3.3 C.7.2.1)."""
TRIAL = (
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)
"""Clinical Trial Subject and Study (PS3.3 C.7.1.3, C.7.2.3)."""
IDENTITY = PATIENT + STUDY + TRIAL

_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_REFERENCE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_EQUIPMENT = ("Modality", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
_AGE = re.compile(r"[0-9]{3}[DWMY]")
_UTF_8 = "ISO_IR 192"


def stand_ins(headers: Sequence[Dataset], geometry: Geometry) -> list[Dataset]:
    """For each header one new data set with its references, its grid and no identity, for highdicom."""
    return [_stand_in(ds, geometry) for ds in headers]


def carry_identity(result: Dataset, source: Dataset) -> None:
    """Put the patient and the study of `source` into `result`, element by element, none of them changed.

    A type 2 attribute that the source lacks is there, but empty (PS3.5 7.4.3).
    """
    for keyword in IDENTITY:
        if keyword in result:
            delattr(result, keyword)
        if keyword in source:
            result[keyword] = copy.deepcopy(source.get_item(Tag(keyword)))
        elif keyword in _TYPE_2:
            setattr(result, keyword, None)
    # It tells no patient from another, and a malformed one would make the result malformed.
    if _AGE.fullmatch(age := text_of(source, "PatientAge")):
        result.PatientAge = age


def carry_character_set(result: Dataset, source: Dataset, own_texts: Sequence[str]) -> None:
    """Encode `result` in the source's character set, so that a name arrives in the bytes it came in.

    Where `own_texts` are not all ASCII the result is in UTF-8: names are then the same, their bytes not.
    """
    if not all(text.isascii() for text in own_texts):
        _decode_identity(result, source)
        result.SpecificCharacterSet = _UTF_8
    elif "SpecificCharacterSet" in source:
        result.SpecificCharacterSet = source.SpecificCharacterSet
    elif "SpecificCharacterSet" in result:
        del result.SpecificCharacterSet


def stamp(result: Dataset, source: Dataset, at: datetime) -> None:
    """Write the time of production in the time zone that the study's own times are in (PS3.3 C.12.1.1.8).

    Where the source names no zone, it is this machine's, and none is named: naming one would move the
    study's times.
    """
    local = at.astimezone(_zone(text_of(source, "TimezoneOffsetFromUTC")))
    if "TimezoneOffsetFromUTC" in source:
        result.TimezoneOffsetFromUTC = f"{local:%z}"
    for event in ("InstanceCreation", "Content", "Series"):
        setattr(result, f"{event}Date", f"{local:%Y%m%d}")
        setattr(result, f"{event}Time", f"{local:%H%M%S}")
    # highdicom names itself as well, with its own clock: the same job would not give the same bytes again.
    for item in result.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            item.ContributionDateTime = f"{local:%Y%m%d%H%M%S%z}"


def _stand_in(ds: Dataset, geometry: Geometry) -> Dataset:
    new = Dataset()
    for keyword in _REFERENCE:
        setattr(new, keyword, text_of(ds, keyword))
    for keyword in _EQUIPMENT:
        setattr(new, keyword, text_of(ds, keyword).split("\\")[0][:64])
    for keyword in _TYPE_2:
        setattr(new, keyword, None)
    along_row, along_column = plane_axes(ds)
    new.ImageOrientationPatient = _verbatim(ds, "ImageOrientationPatient", [*along_row, *along_column])
    new.ImagePositionPatient = _verbatim(ds, "ImagePositionPatient", [*image_position(ds)])
    new.PixelSpacing = _verbatim(ds, "PixelSpacing", [*pixel_spacing(ds)])
    new.SliceThickness = number_of(ds, "SliceThickness") or round(geometry.spacing[2], 6)
    new.SpacingBetweenSlices = round(geometry.spacing[2], 6)
    new.Rows, new.Columns = int(ds.Rows), int(ds.Columns)
    if text_of(ds, "LossyImageCompression") == "01":
        new.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if text_of(ds, keyword):
                setattr(new, keyword, getattr(ds, keyword))
    return new


def _verbatim(ds: Dataset, keyword: str, numbers: list[float]) -> list[object]:
    """The source's own decimal strings, so that positions compare equal digit for digit."""
    value = getattr(ds, keyword)
    return list(value) if len(value) == len(numbers) else list(numbers)


def _decode_identity(result: Dataset, source: Dataset) -> None:
    for keyword in IDENTITY:
        if keyword in source and (element := source[keyword]).VR in {"LO", "SH", "PN", "LT", "ST", "UT"}:
            setattr(result, keyword, None if element.value is None else str(element.value))


def _zone(offset: str) -> timezone | None:
    """The zone of a Timezone Offset From UTC such as +0130; None stands for this machine's."""
    digits = offset[1:]
    if offset[:1] not in {"+", "-"} or len(digits) != 4 or not (digits.isascii() and digits.isdigit()):
        return None
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    if minutes >= 24 * 60:
        return None
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
