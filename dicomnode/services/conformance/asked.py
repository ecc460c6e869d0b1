"""What the node asks of others by DIMSE: the contexts that it proposes, for what, to whom (PS3.2 A.4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from pydicom.uid import CTImageStorage
from pynetdicom.presentation import PresentationContext

from dicomnode.config import Config, Destination
from dicomnode.dimse.commitment import commitment_context, reporting_role
from dicomnode.dimse.fetch import get_contexts, move_context
from dicomnode.dimse.ian import availability_context
from dicomnode.dimse.names import by_number, uid_name
from dicomnode.dimse.presentation import STORAGE_CLASSES, TRANSFER_SYNTAXES
from dicomnode.dimse.query import find_context
from dicomnode.dimse.sender import ACCEPTED, offered_syntaxes
from dicomnode.dimse.ups_user import ups_context
from dicomnode.model.peer import Peer
from dicomnode.services.conformance.created import created_for
from dicomnode.services.conformance.document import Cell, Section, Table
from dicomnode.services.conformance.subject import Subject
from dicomnode.services.prior_source import SOP_CLASSES

PROPOSED = ("SOP class", "UID", "Transfer syntaxes", "Presentation contexts", "Role")
ONE, ONE_FOR_EACH = "one", "one for each transfer syntax"
SCU, SCP = "SCU", "SCP by role selection"
_OF_THE_SERIES = "SOP classes of the series"


def activities(subject: Subject) -> Iterator[Section]:
    """A section for each activity that the configuration has."""
    config = subject.config
    if stored_by_dimse(config):
        yield _delivery(subject)
    yield _move()
    if confirmed_by(config, "find"):
        yield _listing(config)
    if confirmed_by(config, "commitment"):
        yield _commitment(config)
    yield _report()
    if (archive := config.asked(config.completion.ask)) is not None:
        yield _evidence(config, archive)
    if (archive := config.asked(config.priors.ask)) is not None:
        yield _priors(config, archive)
    if config.delivery.announce_to:
        yield _announcement(config)
    if config.peer:
        yield _orders(config)


def stored_by_dimse(config: Config) -> list[Destination]:
    """The destinations that results go to by C-STORE."""
    return [each for each in config.destination if each.web is None]


def confirmed_by(config: Config, way: str) -> list[Destination]:
    """The destinations whose deliveries are confirmed in that way."""
    return [each for each in config.destination if each.confirm == way]


def _delivery(subject: Subject) -> Section:
    destinations = stored_by_dimse(subject.config)
    codes = ", ".join(f"{code:04X}" for code in sorted(ACCEPTED))
    return Section(
        "Activity: deliver results",
        (
            f"To the destinations {_names(destinations)}, as soon as a run has ended. An instance is "
            "offered in the transfer syntax of its file, one presentation context for each transfer "
            "syntax; Explicit and Implicit VR Little Endian are written as each other where the peer takes "
            "one of them alone.",
            f"The statuses {codes} count as stored. After any other one, or none, the same bytes are sent "
            f"again, later and later, for {subject.config.delivery.give_up_after_h:g} hours.",
        ),
        (_proposed_by_delivery(subject, destinations),),
    )


def _proposed_by_delivery(subject: Subject, destinations: Iterable[Destination]) -> Table:
    pairs = dict.fromkeys(
        (iod.SOPClassUID, offered)
        for destination in destinations
        for _, iod in created_for(subject, destination.name)
        for own in iod.TransferSyntaxUIDs
        for offered in offered_syntaxes(own)
    )
    rows = []
    for SOPClassUID in by_number(uid for uid, _ in pairs):
        syntaxes = tuple(syntax for uid, syntax in pairs if uid == SOPClassUID)
        rows.append((uid_name(SOPClassUID), SOPClassUID, _named(syntaxes), ONE_FOR_EACH, SCU))
    return Table("Proposed presentation contexts: results", PROPOSED, tuple(rows))


def _move() -> Section:
    stored = by_number(TRANSFER_SYNTAXES)
    beside = {own: tuple(offered_syntaxes(own, decompress=True)[1:]) for own in stored}
    ways = sorted(stored, key=lambda own: beside[own])
    rows = tuple((_named(group), _named(others)) for others, group in groupby(ways, key=beside.__getitem__))
    return Section(
        "Activity: send what a C-MOVE names",
        (
            "To the move destination, over one association that the node opens. Proposed are the SOP "
            "classes of the stored instances, each of them one of the storage SOP classes that the node "
            "accepts, in the transfer syntax in which they are stored, and in others as the table says; "
            "one presentation context for each. The originator's AE title and message ID go along. Only "
            "0000 counts as completed; B000, B006 and B007 as a warning.",
        ),
        (
            Table(
                "Proposed transfer syntaxes: sub-operations of C-MOVE", ("Stored in", "Offered beside"), rows
            ),
        ),
    )


def _listing(config: Config) -> Section:
    destinations = _names(confirmed_by(config, "find"))
    return Section(
        "Activity: ask whether a result is listed",
        (
            f"Of the destinations {destinations}, after each result that they accepted: a C-FIND at level "
            "IMAGE by Study and Series Instance UID, at once and at growing intervals. Whoever does not "
            f"list the instance after two early and {config.delivery.confirm_checks} further questions gets "
            "it again.",
        ),
        (_table("results that are listed", find_context(), SCU),),
    )


def _commitment(config: Config) -> Section:
    destinations = _names(confirmed_by(config, "commitment"))
    return Section(
        "Activity: ask for storage commitment",
        (
            f"Of the destinations {destinations}, for the results that they accepted. The association stays "
            f"open for {config.delivery.report_wait_s:g} s, in which the report may come on it; otherwise "
            "it is taken on an association of the archive's own. Where none came within "
            f"{config.delivery.report_limit_s:g} s the archive is asked again, with a new transaction UID.",
        ),
        (_table("storage commitment asked for", commitment_context(), SCU),),
    )


def _report() -> Section:
    role = SCP if reporting_role().scp_role else SCU
    return Section(
        "Activity: report on storage commitment",
        (
            "To a peer that asked for storage commitment and ended its association before the report: an "
            "N-EVENT-REPORT, at the address that section 'Remote AE titles' has for its AE title, until it "
            "is answered 0000.",
        ),
        (_table("storage commitment reported", commitment_context(), role),),
    )


def _evidence(config: Config, archive: Peer) -> Section:
    return Section(
        "Activity: compare a series with an archive",
        (
            f"Of {archive.ae_title}, once nothing of a series came for {config.completion.quiet_s:g} s: a "
            "C-FIND at level IMAGE. What is missing is fetched by C-GET, and by C-MOVE to this node where "
            "that did not bring all. In C-GET the storage contexts are for the SOP classes that the series "
            "has already; an instance is answered as in C-STORE.",
        ),
        (Table("Proposed presentation contexts: evidence", PROPOSED, tuple(_rows_of_evidence())),),
    )


def _priors(config: Config, archive: Peer) -> Section:
    return Section(
        "Activity: look for priors",
        (
            f"Of {archive.ae_title}, before a job whose pipeline asks for earlier series of the patient: a "
            "C-FIND at level STUDY by Patient ID and a range of Study Date, at level SERIES, and at level "
            "IMAGE for what is wanted, all in Study Root. What is missing is fetched by C-GET, and by C-MOVE "
            f"to this node where that did not bring all, for at most {config.priors.limit_s:g} s. In C-GET "
            "the storage contexts are for the SOP classes that pipelines take; an instance is answered as in "
            "C-STORE.",
        ),
        (Table("Proposed presentation contexts: priors", PROPOSED, tuple(_rows_of_priors())),),
    )


def _rows_of_priors() -> Iterator[tuple[Cell, ...]]:
    get, *storage = get_contexts(sorted(SOP_CLASSES))
    yield from (_row(context, SCU) for context in (find_context(), get, move_context()))
    yield from (_row(context, SCP) for context in storage)


def _rows_of_evidence() -> Iterator[tuple[Cell, ...]]:
    get, plain, *compressed = get_contexts([CTImageStorage])
    yield from (_row(context, SCU) for context in (find_context(), get, move_context()))
    syntaxes = (str(syntax) for context in compressed for syntax in context.transfer_syntax)
    yield _OF_THE_SERIES, "", _syntaxes_of(plain), ONE, SCP
    yield _OF_THE_SERIES, "", _named(syntaxes), f"{ONE_FOR_EACH}, as far as there is room", SCP


def _announcement(config: Config) -> Section:
    return Section(
        "Activity: announce results",
        (
            f"To {', '.join(config.delivery.announce_to)}: an N-CREATE once all results of a job are "
            "confirmed. It names them, and as Retrieve AE Title the destinations that have them. It is "
            "repeated under the same UID until it is answered 0000 or 0111.",
        ),
        (_table("results that are available", availability_context(), SCU),),
    )


def _orders(config: Config) -> Section:
    return Section(
        "Activity: order work",
        (
            f"To {', '.join(each.ae_title for each in config.peer)}, by an administrator's order (`dicomnode "
            "workitems`): an N-CREATE with the data set that was given, an N-GET of all attributes, or an "
            "N-ACTION that asks for a cancellation.",
        ),
        (_table("work that is ordered", ups_context(), SCU),),
    )


def _row(context: PresentationContext, role: str) -> tuple[Cell, ...]:
    uid = str(context.abstract_syntax)
    return uid_name(uid), uid, _syntaxes_of(context), ONE, role


def _syntaxes_of(context: PresentationContext) -> tuple[str, ...]:
    return _named(map(str, context.transfer_syntax))


def _table(what: str, context: PresentationContext, role: str) -> Table:
    return Table(f"Proposed presentation contexts: {what}", PROPOSED, (_row(context, role),))


def asked_classes(subject: Subject) -> set[str]:
    """The SOP classes that the node is a user of."""
    uid = PROPOSED.index("UID")
    tables = [table for section in activities(subject) for table in section.tables]
    named = {str(row[uid]) for table in tables if table.columns == PROPOSED for row in table.rows}
    return (named - {""}) | STORAGE_CLASSES


def _named(uids: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{uid_name(uid)} ({uid})" for uid in uids) or ("none",)


def _names(destinations: Iterable[Destination]) -> str:
    return ", ".join(f"'{each.name}'" for each in destinations)
