"""The instances that the node makes: information objects, templates, codes (PS3.2 A.8)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from dicomnode.config import Config
from dicomnode.dimse.names import uid_name
from dicomnode.model.manifest import Code
from dicomnode.model.profile import PROFILES, Profile
from dicomnode.model.result import ResultRole
from dicomnode.model.workitem import CODE_SCHEME
from dicomnode.results.iods import IOD, TEMPLATES, iods_of, iods_of_every_pipeline
from dicomnode.services.conformance.document import Section, Table
from dicomnode.services.conformance.subject import Subject

EVERY_PIPELINE = "every pipeline"
_CONTEXT_GROUPS = (
    ("CID 100", "Quantitative Diagnostic Imaging Procedures", "procedure reported"),
    ("CID 240", "Present-Absent", "what was looked for and not found"),
    (
        "CID 6047",
        "CAD Analysis and Findings summary",
        "whether there are findings, and whether there was a run",
    ),
    ("CID 7010", "Key Object Selection Document Title", "key images and withdrawals"),
    ("CID 7203", "Image Derivation", "how frames of Segmentations and maps were derived"),
)


def annexes(subject: Subject) -> Section:
    """Everything of PS3.2 A.8."""
    return Section("Annexes", sections=(_contents(subject), _private(), _terminology(subject), *_rest()))


def created_for(subject: Subject, destination: str) -> list[tuple[ResultRole, IOD]]:
    """What that destination can get, each once."""
    profile = subject.config.profile_of(destination)
    found = [each for manifest in subject.manifests for each in iods_of(manifest, profile)]
    return list(dict.fromkeys([*found, *iods_of_every_pipeline(profile)]))


def _profiles(config: Config) -> list[Profile]:
    names = [destination.name for destination in config.destination]
    return list(dict.fromkeys(map(config.profile_of, names))) or [PROFILES["generic"]]


def _created(subject: Subject) -> Table:
    profiles = _profiles(subject.config)
    found = [
        *(
            (manifest.pipeline.name, *each)
            for manifest in subject.manifests
            for profile in profiles
            for each in iods_of(manifest, profile)
        ),
        *((EVERY_PIPELINE, *each) for profile in profiles for each in iods_of_every_pipeline(profile)),
    ]
    rows = tuple((pipeline, *_row(role, iod)) for pipeline, role, iod in dict.fromkeys(found))
    columns = ("Pipeline", "Result", "IOD", "PS3.3", "SOP class", "UID", "Modality", "Transfer syntaxes")
    return Table("Created SOP instances", columns, rows)


def _row(role: ResultRole, iod: IOD) -> tuple[str, str, str, str, str, str, tuple[str, ...]]:
    syntaxes = tuple(f"{uid_name(uid)} ({uid})" for uid in iod.TransferSyntaxUIDs)
    return role, iod.name, iod.clause, uid_name(iod.SOPClassUID), iod.SOPClassUID, iod.Modality, syntaxes


def _contents(subject: Subject) -> Section:
    results = subject.config.results
    label = (
        '"RESEARCH ONLY" stands in each series description' if results.research_only else "No label is added"
    )
    created = Section(
        "Created SOP instances",
        (
            "Each instance is in the study of its source, in a series of its own. Patient and study "
            "attributes are those of the source, byte for byte. Series numbers begin at "
            f"{results.series_number}. Equipment is {results.manufacturer} dicomnode {subject.version}; the "
            f"node and the pipeline are contributing equipment. {label}. A report is COMPLETE, UNVERIFIED "
            "and PRELIMINARY.",
            "A SOP Instance UID is a function of the job and of what the instance is for: the same job "
            "sends the same UIDs again. UIDs are of the form 2.25.",
        ),
        (_created(subject),),
    )
    used = Section(
        "Usage of attributes from received instances",
        (
            "UIDs of study, series, instance and SOP class are needed of every instance. What a pipeline "
            "needs beyond that is in its manifest; an instance without it is stored all the same, and the "
            "job is refused.",
        ),
    )
    coerced = Section(
        "Coerced and modified fields",
        ("None. What was received is kept, and sent on, as it was received; only its encoding may differ.",),
    )
    return Section("IOD contents", sections=(created, used, coerced))


def _private() -> Section:
    return Section("Data dictionary of private attributes", ("No private attributes are created.",))


def _terminology(subject: Subject) -> Section:
    groups = Table("Context groups", ("Identifier", "Name", "Used for"), _CONTEXT_GROUPS)
    templates = Table(
        "Templates", ("Identifier", "Used for"), tuple((f"TID {tid}", use) for tid, use in TEMPLATES.items())
    )
    codes = tuple(
        dict.fromkeys(
            (manifest.pipeline.name, each.value, each.scheme, each.meaning)
            for manifest in subject.manifests
            for each in _codes(manifest)
        )
    )
    private = (
        *((name, name, CODE_SCHEME, title) for name, title in _titles(subject)),
        *(row for row in codes if row[2].startswith("99")),
    )
    columns = ("Pipeline", "Code value", "Coding scheme", "Code meaning")
    return Section(
        "Coded terminology and templates",
        sections=(
            Section("Context groups", (), (groups,)),
            Section(
                "Template specifications",
                ("Included templates: TID 1001, 1004, 1204, 1600 and 4019. No private templates.",),
                (templates,),
            ),
            Section("Codes of the installed pipelines", (), (Table("Codes", columns, codes),)),
            Section(
                "Private code definitions",
                (
                    f"In the scheme {CODE_SCHEME} the name of a pipeline is the Scheduled Workitem Code of "
                    "its work items, and an AE title stands for itself.",
                ),
                (Table("Private codes", columns, private),),
            ),
        ),
    )


def _titles(subject: Subject) -> list[tuple[str, str]]:
    return [(manifest.pipeline.name, manifest.pipeline.title) for manifest in subject.manifests]


def _codes(value: object) -> Iterator[Code]:
    """Every code in a manifest, in its order."""
    if isinstance(value, Code):
        yield value
    elif isinstance(value, BaseModel):
        for _, field in value:
            yield from _codes(field)
    elif isinstance(value, tuple):
        for item in value:
            yield from _codes(item)


def _rest() -> tuple[Section, ...]:
    return (
        Section("Grayscale image consistency", ("The node has no display.",)),
        Section("Standard extended, specialized and private SOP classes", ("None.",)),
        Section("Private transfer syntaxes", ("None.",)),
    )
