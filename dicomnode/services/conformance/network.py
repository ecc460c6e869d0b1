"""Association policies, network interfaces, configuration, character sets, security (PS3.2 A.4, A.6, A.7)."""

from __future__ import annotations

from pydantic import BaseModel

from dicomnode.config import Config, DimsePeer, WebSection
from dicomnode.dimse import receiver
from dicomnode.dimse.tls import HANDSHAKE_LIMIT_S
from dicomnode.model.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomnode.services.conformance.document import Section, Table
from dicomnode.services.conformance.subject import Subject

_SHOWN_ELSEWHERE = frozenset({"accept", "users", "tls", "cors_origins", "tokens"})
_REJECTIONS = (
    (receiver.CALLED_NOT_RECOGNIZED, "the called AE title is not the node's"),
    (
        receiver.CALLING_NOT_RECOGNIZED,
        "the calling AE title and the address are not among the accepted peers",
    ),
    (receiver.USER_NOT_RECOGNIZED, "the user identity is wrong, of a kind that is not checked, or missing"),
    (receiver.TEMPORARY_CONGESTION, "the node is about to stop"),
    (receiver.LOCAL_LIMIT_EXCEEDED, "the maximum number of associations is reached"),
)


def association_policies(subject: Subject) -> Section:
    """What holds for every association."""
    settings = subject.receiver
    largest = f"{settings.maximum_pdu} bytes" if settings.maximum_pdu else "no limit"
    numbers = Table(
        "Number of associations",
        ("Associations", "Maximum"),
        (
            ("as acceptor, at a time", str(settings.maximum_associations)),
            (
                "as requestor, at a time",
                "one for each destination, each C-MOVE, each report and each question to an archive",
            ),
        ),
    )
    identity = Table(
        "Implementation identifying information",
        ("Item", "Value"),
        (
            ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
            ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
        ),
    )
    return Section(
        "Association policies",
        sections=(
            Section(
                "General",
                (
                    f"Application context name 1.2.840.10008.3.1.1.1. Largest PDU that is taken: {largest} "
                    "as acceptor, no limit as requestor.",
                ),
            ),
            Section("Number of associations", (), (numbers,)),
            Section(
                "Asynchronous nature",
                ("One operation at a time: any other window that is proposed is answered with 1 and 1.",),
            ),
            Section("Implementation identifying information", (), (identity,)),
        ),
    )


def acceptance(subject: Subject) -> tuple[tuple[str, ...], tuple[Table, ...]]:
    """Who may open an association, and how others are rejected."""
    settings = subject.receiver
    names = ", ".join((settings.ae_title, *settings.called_ae_titles))
    text = (
        f"Associations are accepted that call {names}, from the peers below. A peer may take "
        f"{settings.acse_timeout_s:g} s to ask for one, and be silent for {settings.network_timeout_s:g} s "
        "in one. Where a context names several transfer syntaxes the first one that is supported is taken; "
        "but of the uncompressed ones Explicit VR Little Endian goes first, and those that may lose "
        "something go last. A presentation context with an abstract syntax or without a transfer syntax of "
        "the tables below is refused.",
    )
    peers = tuple((rule.ae_title, str(rule.network)) for rule in settings.accept)
    rejections = tuple(("/".join(map(str, code)), when) for code, when in _REJECTIONS)
    return text, (
        Table("Accepted peers", ("Calling AE title", "Addresses"), peers),
        Table("Rejections", ("Result/source/reason", "When"), rejections),
    )


def interfaces(config: Config) -> Section:
    """PS3.2 A.4.3."""
    return Section(
        "Network interfaces",
        sections=(
            Section("Physical network interface", ("Whatever the operating system's TCP/IP runs on.",)),
            Section(
                "Additional protocols",
                (
                    "Host names of peers are resolved by the operating system. No DHCP, NTP or LDAP of the "
                    "node's own.",
                ),
            ),
            Section(
                "IPv4 and IPv6 support",
                (
                    f"Both. DIMSE listens on IPv{config.dimse.address.version}, DICOMweb on "
                    f"IPv{config.web.address.version}.",
                ),
            ),
        ),
    )


def configuration(config: Config) -> Section:
    """PS3.2 A.4.4."""
    local = Table(
        "Local AE titles",
        ("AE title", "Address", "Port", "TLS port"),
        (
            (
                config.node.ae_title,
                str(config.dimse.address),
                str(config.dimse.port),
                str(config.dimse.tls.port) if config.dimse.tls.certificate else "none",
            ),
        ),
    )
    entries = [("peer", entry) for entry in config.peer]
    entries += [
        (f"destination '{each.name}'", each.dimse) for each in config.destination if each.dimse is not None
    ]
    remote = Table(
        "Remote AE titles",
        ("AE title", "Host", "Port", "TLS", "Connect timeout (s)", "Response timeout (s)", "Known as"),
        tuple(_remote(name, entry) for name, entry in entries),
    )
    parameters = Table(
        "Parameters",
        ("Parameter", "Value", "Default"),
        (
            *_parameters("dimse", config.dimse),
            *_parameters("web", config.web),
            *_parameters("delivery", config.delivery),
        ),
    )
    return Section(
        "Configuration",
        ("By the file config.toml and by environment variables; it is read at the start.",),
        (),
        (
            Section(
                "AE title to presentation address mapping",
                sections=(
                    Section("Local AE titles", (), (local,)),
                    Section("Remote AE titles", (), (remote,)),
                ),
            ),
            Section("Parameters", (), (parameters,)),
        ),
    )


def _remote(name: str, entry: DimsePeer) -> tuple[str, ...]:
    timeouts = (f"{entry.connect_timeout_s:g}", f"{entry.response_timeout_s:g}")
    return entry.ae_title, entry.host, str(entry.port), "yes" if entry.tls else "no", *timeouts, name


def _parameters(name: str, section: BaseModel) -> list[tuple[str, str, str]]:
    defaults = type(section)()
    keys = [key for key in type(section).model_fields if key not in _SHOWN_ELSEWHERE]
    return [(f"{name}.{key}", _shown(getattr(section, key)), _shown(getattr(defaults, key))) for key in keys]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def character_sets() -> Section:
    """PS3.2 A.6."""
    return Section(
        "Support of character sets",
        (
            "Instances are kept in the character set in which they come. Every one of PS3.3 C.12.1.1.2 is "
            "decoded for the catalog, those with code extensions included.",
            "Results are in the character set of their source; in ISO_IR 192 where the node's own texts "
            "need it. Responses to C-FIND, and everything in JSON or XML, are in ISO_IR 192 where ASCII is "
            "not enough.",
        ),
    )


def security(config: Config) -> Section:
    """PS3.2 A.7."""
    users = config.dimse.users
    kinds = Table(
        "User identities that are accepted",
        ("Type (PS3.7 D.3.3.7)", "Users"),
        (
            ("1, user name", str(sum(not user.passcode for user in users))),
            ("2, user name and passcode", str(sum(bool(user.passcode) for user in users))),
            ("3 to 5, Kerberos, SAML, JSON Web Token", "not supported"),
        ),
    )
    known = (
        "required"
        if config.dimse.user_required
        else "checked where it is offered"
        if users
        else "not looked at"
    )
    return Section(
        "Security",
        sections=(
            Section("Security profiles", _tls(config)),
            Section("Association level security", (f"The identity of a user is {known}.",), (kinds,)),
            Section(
                "Application level security",
                (
                    f"DICOMweb is served without TLS: that is a reverse proxy's. {_askers(config.web)} "
                    "Services of destinations are called by HTTPS where their URL says so, and have to "
                    "show a certificate.",
                    "Logs hold AE titles, addresses, UIDs of associations and counts, never the value of "
                    "an attribute.",
                ),
            ),
        ),
    )


def _askers(web: WebSection) -> str:
    ways = [f"a user's name and passcode (RFC 7617; {len(web.users)} known)"] if web.users else []
    if web.tokens.issuer:
        role = f" with the role {web.tokens.role}" if web.tokens.role else ""
        ways += [f"a bearer token (RFC 6750, 7519) of {web.tokens.issuer} for {web.tokens.audience}{role}"]
    return (
        f"Each request needs {' or '.join(ways)}, else it is answered 401."
        if ways
        else ("No request needs an identity.")
    )


def _tls(config: Config) -> tuple[str, ...]:
    tls = config.dimse.tls
    profile = (
        "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12): TLS 1.2 with "
        "forward secrecy and authenticated encryption, and TLS 1.3. A handshake may take "
        f"{HANDSHAKE_LIMIT_S:g} s."
    )
    if not tls.certificate:
        return (
            profile,
            "As acceptor: not configured. As requestor: for the peers that the table of remote AE titles "
            "names.",
        )
    asked = "have to show" if tls.client_certificates == "required" else "are not asked for"
    alone = " Nobody is heard in the clear." if tls.port == config.dimse.port else ""
    return (
        profile,
        f"As acceptor: on port {tls.port}; peers {asked} a certificate.{alone} As requestor: for the peers "
        "that the table of remote AE titles names.",
    )
