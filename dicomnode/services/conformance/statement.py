"""The whole statement, in the order of PS3.2 A: overview, introduction, networking, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from dicomnode.dimse.names import by_number, service_class_name, uid_name
from dicomnode.dimse.presentation import STORAGE_CLASSES
from dicomnode.services.conformance import asked, network, offered, web
from dicomnode.services.conformance.created import annexes
from dicomnode.services.conformance.document import Section, Statement, Table, numbered
from dicomnode.services.conformance.subject import Subject
from dicomnode.services.conformance.syntaxes import TITLE, Sets

_YES, _NO = "yes", "no"


def describe(subject: Subject) -> Statement:
    """The same for the same node, whenever and wherever it is asked for; no secret is in it."""
    sections = (
        _overview(subject),
        Section("Table of contents"),
        _introduction(subject),
        _networking(subject),
        Section("Media interchange", ("The node takes no part in media interchange.",)),
        network.character_sets(),
        network.security(subject.config),
        annexes(subject),
    )
    title = f"DICOM Conformance Statement: dicomnode {subject.version}, {subject.config.node.ae_title}"
    return Statement(title, tuple(map(_with_contents(sections), sections)))


def _with_contents(sections: Sequence[Section]) -> Callable[[Section], Section]:
    rows = tuple((number, section.title) for number, section in numbered(sections))
    contents = Table("Sections", ("Number", "Title"), rows)

    def complete(section: Section) -> Section:
        return section if section.title != "Table of contents" else Section(section.title, (), (contents,))

    return complete


def _overview(subject: Subject) -> Section:
    pipelines = ", ".join(each.pipeline.title for each in subject.manifests) or "none"
    return Section(
        "Conformance statement overview",
        (
            "A node that takes in images by DIMSE and DICOMweb, runs pipelines of artificial intelligence "
            "on complete series, and sends their results on as DICOM objects. It answers queries and "
            "retrievals of what it holds.",
            f"Installed pipelines: {pipelines}.",
        ),
        (_network_services(subject), _web_services(subject)),
    )


def _network_services(subject: Subject) -> Table:
    provided = {uid for service in subject.services for uid in service.classes}
    used = asked.asked_classes(subject)
    single = by_number((provided | used) - STORAGE_CLASSES)
    rows = [
        (service_class_name(uid), uid_name(uid), uid, *_roles(uid, used, provided))
        for uid in sorted(single, key=service_class_name)
    ]
    storage = STORAGE_CLASSES & (provided | used)
    if storage:
        name = f"{len(storage)} SOP classes, which the tables of section 'Networking' list"
        rows.append((service_class_name(min(storage)), name, "", *_roles(min(storage), used, provided)))
    return Table(
        "Network services", ("Service class", "SOP class", "UID", "User (SCU)", "Provider (SCP)"), tuple(rows)
    )


def _roles(uid: str, used: Iterable[str], provided: Iterable[str]) -> tuple[str, str]:
    return _YES if uid in used else _NO, _YES if uid in provided else _NO


def _web_services(subject: Subject) -> Table:
    served = {web.service_of(each) for each in subject.transactions.values()}
    client = web.client(subject.config)
    reached = {name for row in client.tables[0].rows for name in row[2]} if client is not None else set()
    rows = tuple(
        (name, _YES if name in reached else _NO, _YES if name in served else _NO)
        for name in sorted(served | reached)
    )
    return Table("DICOMweb services", ("Service", "User agent", "Origin server"), rows)


def _introduction(subject: Subject) -> Section:
    return Section(
        "Introduction",
        sections=(
            Section(
                "Revision history",
                (
                    f"Of version {subject.version}, made by `dicomnode conformance` from the node and its "
                    "settings.",
                ),
            ),
            Section("Audience", ("Who connects this node with other systems, and knows DICOM.",)),
            Section(
                "Remarks",
                (
                    "A statement of conformance is no proof that two systems work together: it has to be "
                    "tested. Clauses such as PS3.4 C.4.1 are those of the DICOM Standard.",
                ),
            ),
            Section(
                "Terms",
                (
                    "Destination: a configured receiver of results. Pipeline: what computes results from a "
                    "series. Job: one pipeline on one complete series. Profile: the form in which a "
                    "destination takes results.",
                ),
            ),
            Section(
                "References",
                ("NEMA PS3 / ISO 12052, Digital Imaging and Communications in Medicine (DICOM).",),
            ),
        ),
    )


def _networking(subject: Subject) -> Section:
    entities = [_entity(subject), web.server(subject), web.client(subject.config)]
    return Section(
        "Networking",
        sections=(
            _model(subject),
            Section("AE specifications", (), (), tuple(each for each in entities if each is not None)),
            network.interfaces(subject.config),
            network.configuration(subject.config),
        ),
    )


def _model(subject: Subject) -> Section:
    title = subject.config.node.ae_title
    return Section(
        "Implementation model",
        sections=(
            Section(
                "Application data flow",
                (
                    f"Modalities and archives send instances to the application entity {title}, or by "
                    "STOW-RS. A complete series that meets a rule becomes a job; the results of a job go "
                    "to its destinations, and are asked for there until they are proven to be kept.",
                ),
            ),
            Section(
                "Functional definition of AEs",
                (
                    f"{title}: one application entity for everything that goes by DIMSE, as acceptor and as "
                    "requestor. The DICOMweb origin server works on the same instances and work items.",
                ),
            ),
            Section(
                "Sequencing of real-world activities",
                (
                    "Instances may come in any order, and late ones: a series that was complete is "
                    "complete anew, and the results of the earlier generation are withdrawn. Storage "
                    "commitment may be asked for before or after a job has run.",
                ),
            ),
        ),
    )


def _entity(subject: Subject) -> Section:
    sets = Sets()
    activities = tuple(offered.activities(subject.services, sets))
    text, tables = network.acceptance(subject)
    return Section(
        f"{subject.config.node.ae_title} application entity",
        sections=(
            Section("SOP classes", (), (_classes(subject),)),
            network.association_policies(subject),
            Section(
                "Association initiation policy",
                ("The node opens an association for each of these activities, and ends it after.",),
                (),
                tuple(asked.activities(subject)),
            ),
            Section(
                "Association acceptance policy",
                (*text, f"The sets of transfer syntaxes are those of table '{TITLE}'."),
                (*tables, sets.table(), offered.statuses()),
                activities,
            ),
        ),
    )


def _classes(subject: Subject) -> Table:
    provided = {uid for service in subject.services for uid in service.classes}
    used = asked.asked_classes(subject)
    rows = tuple(_class_rows(provided, used))
    return Table("SOP classes", ("SOP class", "UID", "SCU", "SCP"), rows)


def _class_rows(provided: set[str], used: set[str]) -> Iterator[tuple[str, str, str, str]]:
    for uid in by_number(provided | used):
        yield uid_name(uid), uid, *_roles(uid, used, provided)
