"""What a result takes over from its source: the identity as it stands.

Libraries validate and rewrite what they copy (a sex that is no defined term, an age without its zeros).
Identity must arrive as it was sent, so the source's own elements are put in last.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.imaging.elements import text_of
from dicomnode.results.explicit import EncodedSequence

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
_AGE = re.compile(r"[0-9]{3}[DWMY]")
_PRODUCED = {"PR": "PresentationCreation", "RTSTRUCT": "StructureSet"}
"""What the date and time of production are called, by modality; Content in all others."""
_TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Value representations that the Specific Character Set applies to (PS3.5 6.1.2.3)."""
_UTF_8 = "ISO_IR 192"


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


def texts_of(ds: Dataset) -> Iterator[str]:
    """Every text that `ds` holds, at any depth; in what is encoded already there is none."""
    for found in ds.elements():
        if isinstance(found, EncodedSequence):
            continue
        element = ds[found.tag]
        if element.VR == "SQ":
            for item in element.value:
                yield from texts_of(item)
        elif element.VR in _TEXTS and element.value is not None:
            yield str(element.value)


def stamp(result: Dataset, source: Dataset, at: datetime) -> None:
    """Write the time of production in the time zone that the study's own times are in (PS3.3 C.12.1.1.8).

    Where the source names no zone, it is this machine's, and none is named: naming one would move the
    study's times.
    """
    local = at.astimezone(_zone(text_of(source, "TimezoneOffsetFromUTC")))
    if "TimezoneOffsetFromUTC" in source:
        result.TimezoneOffsetFromUTC = f"{local:%z}"
    for event in ("InstanceCreation", "Series", _PRODUCED.get(result.Modality, "Content")):
        setattr(result, f"{event}Date", f"{local:%Y%m%d}")
        setattr(result, f"{event}Time", f"{local:%H%M%S}")
    # highdicom names itself as well, with its own clock: the same job would not give the same bytes again.
    for item in result.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            item.ContributionDateTime = f"{local:%Y%m%d%H%M%S%z}"


def _decode_identity(result: Dataset, source: Dataset) -> None:
    for keyword in IDENTITY:
        if keyword in source and (element := source[keyword]).VR in _TEXTS:
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
