"""DICOMweb, as origin server and as user agent (PS3.18; PS3.2 A.4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dicomnode.config import Address, Config, Destination
from dicomnode.dicomweb.status import FAILURE_REASON, RETRY_AFTER_S
from dicomnode.dicomweb.transactions import QUERY_PARAMETERS, Transaction
from dicomnode.services.conformance.document import Section, Table
from dicomnode.services.conformance.subject import Subject

ROUTES = ("Method", "Path", "Transaction", "PS3.18", "Takes", "Gives", "Parameters", "Success", "Failure")
_SERVICES = {
    "10.5": "STOW-RS",
    "10.6": "QIDO-RS",
    "10.4": "WADO-RS",
    "9": "WADO-URI",
    "11": "UPS-RS",
    "8.10": "Notifications by WebSocket",
    "8.9": "Capabilities",
}
"""By the clause of PS3.18 that their transactions are in."""
_OTHER = "Further transactions"


def server(subject: Subject) -> Section:
    """What is served, and to whom."""
    web = subject.config.web
    sections = [_policies(subject.config)]
    for name in (*_SERVICES.values(), _OTHER):
        served = {key: each for key, each in subject.transactions.items() if service_of(each) == name}
        if served:
            tables = (_routes(name, served), *((_reasons(),) if name == "STOW-RS" else ()))
            sections.append(Section(f"{name} (origin server)", (), tables))
    sections.append(Section("Parameters of queries", (), (_parameters(subject.transactions),)))
    text = f"Paths are relative to http://{_host(web.address)}:{web.port}{web.path}."
    return Section("DICOMweb origin server", (text,), (), tuple(sections))


def service_of(transaction: Transaction) -> str:
    """The name of the service that a transaction belongs to."""
    clauses = [clause for clause in _SERVICES if f"{transaction.clause}.".startswith(f"{clause}.")]
    return _SERVICES[max(clauses, key=len)] if clauses else _OTHER


def client(config: Config) -> Section | None:
    """What is asked of the DICOMweb services of destinations; None where there is none."""
    reached = [each for each in config.destination if each.web is not None]
    if not reached:
        return None
    return Section(
        "DICOMweb user agent",
        (
            "STOW-RS: each result in a request of its own, POST on studies of multipart/related of "
            "application/dicom with one part, in the transfer syntax of its file; answers in "
            "application/dicom+json are read.",
            "QIDO-RS, where deliveries are confirmed by it or a series is compared with an archive: GET on "
            "the instances of a series, with includefield, limit and offset; application/dicom+json.",
            "WADO-RS, where a series is compared with an archive: GET on each instance that is missing.",
        ),
        (
            Table(
                "DICOMweb services of destinations",
                ("Destination", *_CLIENT),
                tuple(_reached(each, config) for each in reached),
            ),
        ),
    )


_CLIENT = ("Base URL", "Transactions", "Authentication", "Connect timeout (s)", "Response timeout (s)")


def _reached(destination: Destination, config: Config) -> tuple[str, str, tuple[str, ...], str, str, str]:
    web = destination.web
    assert web is not None  # noqa: S101  told to the type checker
    is_asked = destination.name == config.completion.ask and destination.dimse is None
    transactions = (
        "STOW-RS",
        *(("QIDO-RS",) if is_asked or destination.confirm == "qido" else ()),
        *(("WADO-RS",) if is_asked else ()),
    )
    way = (
        "basic"
        if web.user
        else "OAuth 2.0 client credentials"
        if web.token_url
        else "bearer token, if there is one"
    )
    timeouts = (f"{web.connect_timeout_s:g}", f"{web.response_timeout_s:g}")
    return destination.name, web.url, transactions, way, *timeouts


def _policies(config: Config) -> Section:
    web = config.web
    rows = tuple((entry.ae_title, str(entry.address)) for entry in web.accept)
    return Section(
        "Connection policies",
        (
            f"Up to {web.maximum_connections} connections at a time in each of {web.processes} process(es); "
            f"more are answered 503. Bodies of up to {web.maximum_request_mb} MB are taken; one of which "
            f"nothing comes for {web.body_timeout_s:g} s is given up (408). What cannot be kept now is "
            f"answered 503 with Retry-After {RETRY_AFTER_S} s. Clients at other addresses than those below "
            "are answered 403.",
            "Pages of these origins may ask in a browser: " + (", ".join(web.cors_origins) or "none") + ".",
        ),
        (Table("Accepted HTTP clients", ("Taken for the AE title", "Addresses"), rows),),
    )


def _routes(name: str, served: Mapping[tuple[str, str], Transaction]) -> Table:
    rows = tuple(_route(method, path, each) for (method, path), each in sorted(served.items(), key=_by_path))
    return Table(f"Resources of {name}", ROUTES, rows)


def _by_path(item: tuple[tuple[str, str], Transaction]) -> tuple[str, str]:
    (method, path), _ = item
    return path, method


def _route(method: str, path: str, each: Transaction) -> tuple[str | tuple[str, ...], ...]:
    return (
        method,
        path,
        each.id,
        each.clause,
        each.takes or ("nothing",),
        each.gives or ("nothing",),
        each.query or ("none",),
        tuple(f"{status} {said}" for status, said in each.success.items()),
        tuple(map(str, each.failures)),
    )


def _parameters(transactions: Mapping[tuple[str, str], Transaction]) -> Table:
    names = dict.fromkeys(name for each in transactions.values() for name in each.query)
    rows = tuple((name, QUERY_PARAMETERS[name]) for name in names)
    return Table("Query parameters", ("Parameter", "Meaning"), rows)


def _reasons() -> Table:
    rows = sorted(dict.fromkeys(_reason_rows()))
    return Table("Failure reasons of STOW-RS", ("Failure reason", "When"), tuple(rows))


def _reason_rows() -> Iterator[tuple[str, str]]:
    for error, reason in FAILURE_REASON.items():
        yield f"{reason:04X}", (error.__doc__ or "").splitlines()[0].rstrip(".")


def _host(address: Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
