"""The archive where priors are sought: the series of a patient that it lists, by C-FIND or by QIDO-RS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from pydicom import uid
from pydicom.datadict import keyword_dict
from pydicom.dataset import Dataset

from dicomnode.config import Config
from dicomnode.dicomweb.client import WebClient
from dicomnode.dimse.query import find
from dicomnode.errors import PeerError
from dicomnode.imaging.elements import number_of, text_of
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.imaging.patient import patient_of
from dicomnode.model.peer import Peer
from dicomnode.model.prior import Candidate
from dicomnode.services.destinations import web_client
from dicomnode.services.evidence import Archive
from dicomnode.services.evidence_source import OnInstance, archive_of
from dicomnode.services.ingest import Ingest

SOP_CLASSES = (
    uid.MRImageStorage,
    uid.CTImageStorage,
    uid.PositronEmissionTomographyImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedCTImageStorage,
    uid.EnhancedPETImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedPETImageStorage,
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForProcessing,
)
"""What a prior can be instances of: what pipelines take."""

_OF_STUDY = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
)
_OF_SERIES = (
    "SeriesInstanceUID",
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "NumberOfSeriesRelatedInstances",
)

Search = Callable[[str, dict[str, str]], Iterable[Dataset]]
"""From a level and its keys, "" where the value is asked for, to the matches; raises PeerError."""


@dataclass(frozen=True, slots=True)
class PriorArchive:
    """Whom to ask for priors, and where to fetch them from.

    `studies`: from a PatientID and a range of StudyDate to what is listed, one a study, without its series;
    `series`: the same candidate, once for each of its study's series. Both raise PeerError.
    """

    archive: Archive
    studies: Callable[[str, str], list[Candidate]]
    series: Callable[[Candidate], list[Candidate]]


def prior_archive_of(config: Config, ingest: Ingest, on_instance: OnInstance) -> PriorArchive | None:
    """Whom `priors.ask` names; None where nobody is asked. Raises ConfigError."""
    name = config.priors.ask
    archive = archive_of(config, name, ingest, on_instance)
    if archive is None:
        return None
    if (peer := config.asked(name)) is not None:
        search: Search = partial(_by_dimse, peer, config.node.ae_title)
    else:
        destination = config.destination_named(name)
        if destination is None or destination.web is None:
            return None
        search = partial(_by_web, web_client(destination, destination.web))
    return PriorArchive(archive, partial(_studies, search), partial(_series, search))


def _studies(search: Search, PatientID: str, dates: str) -> list[Candidate]:
    keys = {**dict.fromkeys(_OF_STUDY, ""), "PatientID": PatientID, "StudyDate": dates}
    return [
        Candidate(
            patient_of(match),
            text_of(match, "StudyInstanceUID"),
            "",
            text_of(match, "StudyDate"),
            text_of(match, "StudyTime"),
            text_of(match, "StudyDescription"),
        )
        for match in search("STUDY", keys)
        if text_of(match, "StudyInstanceUID")
    ]


def _series(search: Search, of: Candidate) -> list[Candidate]:
    keys = {**dict.fromkeys(_OF_SERIES, ""), "StudyInstanceUID": of.StudyInstanceUID}
    return [
        Candidate(
            of.patient,
            of.StudyInstanceUID,
            text_of(match, "SeriesInstanceUID"),
            of.StudyDate,
            of.StudyTime,
            of.StudyDescription,
            text_of(match, "Modality"),
            text_of(match, "SeriesDescription"),
            text_of(match, "BodyPartExamined"),
            int(number_of(match, "NumberOfSeriesRelatedInstances") or 0),
        )
        for match in search("SERIES", keys)
        if text_of(match, "SeriesInstanceUID")
        and text_of(match, "StudyInstanceUID") in ("", of.StudyInstanceUID)
    ]


def _by_dimse(peer: Peer, own_ae: str, level: str, keys: dict[str, str]) -> Iterator[Dataset]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    with closing(find(peer, own_ae, identifier)) as matches:
        yield from matches


def _by_web(client: WebClient, level: str, keys: dict[str, str]) -> Iterator[Dataset]:
    matched = {keyword: value for keyword, value in keys.items() if value}
    study = matched.pop("StudyInstanceUID", "")
    path, unique = "/studies", "StudyInstanceUID"
    if level == "SERIES":
        path, unique = f"/studies/{study}/series", "SeriesInstanceUID"
    wanted = ",".join(_tag(keyword) for keyword in keys if keyword not in matched)
    for match in client.search(path, {**matched, "includefield": wanted}, _tag(unique)).values():
        try:
            yield Dataset.from_json(match)
        except UNREADABLE as error:
            raise PeerError(f"the peer's answer cannot be read: {type(error).__name__}") from None


def _tag(keyword: str) -> str:
    return f"{keyword_dict[keyword]:08X}"
