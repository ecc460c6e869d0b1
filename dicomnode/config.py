"""`config.toml` as frozen sections; a mistake stops the start and is named with its file and key."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from dicomnode.errors import ConfigError
from dicomnode.model.job import Priority
from dicomnode.model.limits import InstanceLimits
from dicomnode.model.passcode import require_hashed
from dicomnode.model.peer import Peer, PeerTLS
from dicomnode.model.profile import PROFILES, Profile
from dicomnode.model.queue import Limit, PauseKind
from dicomnode.model.room import CPU

ENVIRONMENT_PREFIX = "DICOMNODE_"
SECRET_PREFIX = "DICOMNODE_SECRET_"  # noqa: S105  the name of a variable
OBJECTS_SECRET = f"{SECRET_PREFIX}OBJECTS"
"""The secret of `[objects]`; no destination may be called so."""
FILE_VARIABLE = "DICOMNODE_CONFIG"
"""Where config.toml is, for processes that others start; no setting."""


def _ae_title(value: str) -> str:
    if not 1 <= len(value) <= 16 or value != value.strip() or not value.isascii() or not value.isprintable():
        raise ValueError(
            f"an AE title has 1 to 16 plain characters and no space at either end, not {value!r}"
        )
    if "\\" in value:
        raise ValueError("an AE title has no backslash")
    return value


def _host(value: str) -> str:
    try:
        address = ip_address(value.partition("%")[0])
    except ValueError:
        return value
    address = (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise ValueError(f"{value} is the address of no peer")
    return value


def _web_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError(f"not an https or http URL: {value!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a URL here has no user, password, query or fragment")
    _host(parts.hostname)
    return value.rstrip("/")


AETitle = Annotated[str, AfterValidator(_ae_title)]
"""A peer's name (PS3.5 6.2, AE)."""


WebURL = Annotated[str, AfterValidator(_web_url)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
Seconds = Annotated[float, Field(strict=True, gt=0)]
NotNegative = Annotated[float, Field(strict=True, ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]
Switch = Annotated[bool, Field(strict=True)]
Percent = Annotated[float, Field(strict=True, gt=0, le=100)]


def _address(value: object) -> object:
    try:
        return ip_address(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"is no address such as 127.0.0.1 or ::1, but {value!r}") from None


def _network(value: object) -> object:
    try:
        return ip_network(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"is no network such as 10.1.0.0/16 or 10.1.2.3/32, but {value!r}") from None


def _amount(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError(f'is neither "auto" nor a whole number from 0 on, but {value!r}')


Amount = Annotated[int | Literal["auto"], BeforeValidator(_amount)]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(_address)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSection(_Section):
    """Who this node is and where it keeps what it was given."""

    ae_title: AETitle = "DICOMNODE"
    data: Path = Path("var")
    minimum_free_mb: Annotated[int, Field(strict=True, ge=0)] = 1024
    stop_limit_s: Seconds = 30.0


class DatabaseSection(_Section):
    """Where the rows are; empty is SQLite in the data folder."""

    url: str = ""


def _beside(value: str, info: ValidationInfo) -> str:
    base: Path | None = (info.context or {}).get("folder")
    return str(base / value) if value and base else value


File = Annotated[str, AfterValidator(_beside)]
"""A file, relative to config.toml; "" is none."""


class ObjectsSection(_Section):
    """Where the bytes are: in the data folder, or in an S3 store."""

    url: Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*)?$")] = ""
    endpoint: WebURL | Literal[""] = ""
    region: Name = "us-east-1"
    access_key: str = ""
    secret_file: File = ""
    ca_file: File = ""
    path_style: Switch = True
    timeout_s: Seconds = 10.0
    copies_gb: Annotated[float, Field(strict=True, gt=0)] = 20.0


class AcceptEntry(_Section):
    """A calling AE title and the addresses it may come from."""

    ae_title: AETitle
    address: Network


THIS_MACHINE = AcceptEntry(ae_title="*", address=IPv4Network("127.0.0.0/8"))


class UserEntry(_Section):
    """A user of DIMSE, and the hash of the passcode; "" where the name is enough (PS3.7 D.3.3.7)."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    passcode: Annotated[str, AfterValidator(lambda text: text and require_hashed(text))] = ""


class DimseTLSSection(_Section):
    """DIMSE by TLS, where there is a certificate (PS3.15 B.12)."""

    port: Port = 2762
    certificate: File = ""
    key: File = ""
    ca: File = ""
    client_certificates: Literal["required", "none"] = "required"

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together")
        if self.certificate and self.client_certificates == "required" and not self.ca:
            raise ValueError('client_certificates = "required" needs ca, who signs them')
        return self


class DimseSection(_Section):
    """The DIMSE listener."""

    address: Address = IPv4Address("127.0.0.1")
    port: Port = 11112
    accept: tuple[AcceptEntry, ...] = (THIS_MACHINE,)
    processes: Count = 2
    maximum_associations: Count = 50
    maximum_associations_per_peer: Count = 32
    maximum_pdu: Annotated[int, Field(strict=True, ge=4096, le=16_777_216)] = 1_048_576
    requests_per_second: Count = 2000
    acse_timeout_s: Seconds = 10.0
    network_timeout_s: Seconds = 60.0
    users: tuple[UserEntry, ...] = ()
    user_required: Switch = False
    tls: DimseTLSSection = DimseTLSSection()

    @model_validator(mode="after")
    def _requires_somebody_known(self) -> Self:
        if self.user_required and not self.users:
            raise ValueError("user_required without users lets nobody in")
        return self

    @model_validator(mode="after")
    def _is_not_open_to_all(self) -> Self:
        if self.address.is_loopback:
            return self
        for entry in self.accept:
            if entry.ae_title == "*" and entry.address.prefixlen == 0:
                raise ValueError("accept lets everybody in on an address that others can reach")
        return self


class WebUserEntry(_Section):
    """A user of DICOMweb, and the hash of the passcode (RFC 7617)."""

    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^:]+$")]
    passcode: Annotated[str, AfterValidator(require_hashed)]


class WebTokensSection(_Section):
    """Bearers of whose tokens may use DICOMweb, where there is an issuer (RFC 6750, 7519)."""

    issuer: str = ""
    audience: str = ""
    keys_url: WebURL | Literal[""] = ""
    keys_file: File = ""
    ca_file: File = ""
    role: str = ""
    roles_claim: Name = "roles"

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        said = (self.issuer, self.audience, self.keys_url, self.keys_file, self.ca_file, self.role)
        if not any(said):
            return self
        if not (self.issuer and self.audience):
            raise ValueError("tokens are taken from an issuer and for an audience: both are needed")
        if bool(self.keys_url) == bool(self.keys_file):
            raise ValueError("the issuer's keys are at keys_url or in keys_file: one of the two is needed")
        return self


class WebSection(_Section):
    """The DICOMweb listener."""

    address: Address = IPv4Address("127.0.0.1")
    port: Port = 8080
    path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)+$")] = "/dicom-web"
    accept: tuple[AcceptEntry, ...] = (THIS_MACHINE,)
    cors_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^/*]+$")], ...] = ()
    host_names: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")], ...] = ()
    public_url: WebURL | Literal[""] = ""
    processes: Count = 1
    maximum_connections: Count = 100
    requests_per_second: Count = 1000
    maximum_request_mb: Count = 16_384
    body_timeout_s: Seconds = 60.0
    users: tuple[WebUserEntry, ...] = ()
    tokens: WebTokensSection = WebTokensSection()

    @model_validator(mode="after")
    def _names_each_user_once(self) -> Self:
        names = [user.name for user in self.users]
        if len(names) != len({*names}):
            raise ValueError("users has a name twice")
        return self

    @model_validator(mode="after")
    def _is_not_open_to_all(self) -> Self:
        if not self.address.is_loopback and any(entry.address.prefixlen == 0 for entry in self.accept):
            raise ValueError("accept lets everybody in on an address that others can reach")
        return self

    @model_validator(mode="after")
    def _shares_a_port(self) -> Self:
        if self.processes > 1 and self.port == 0:
            raise ValueError("several processes share one port: port must not be 0")
        return self


class IngestSection(_Section):
    """What one instance may cost, whichever way it comes."""

    maximum_instance_mb: Count = 16_384
    maximum_inflated_mb: Count = 2000
    maximum_inflation: Count = 200
    maximum_elements: Count = 1_000_000
    maximum_depth: Count = 64

    @property
    def limits(self) -> InstanceLimits:
        """The same in bytes."""
        return InstanceLimits(
            size=self.maximum_instance_mb * 1_000_000,
            inflated=self.maximum_inflated_mb * 1_000_000,
            inflation=self.maximum_inflation,
            elements=self.maximum_elements,
            depth=self.maximum_depth,
        )


class CompletionSection(_Section):
    """When a series counts as complete."""

    quiet_s: Seconds = 10.0
    missing_wait_s: Seconds = 60.0
    ask: str = ""
    ask_limit_s: Seconds = 60.0


class PriorsSection(_Section):
    """Where earlier series of a patient are sought, and for how long."""

    ask: str = ""
    limit_s: Seconds = 60.0


TorchDevice = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")]


class DeviceEntry(_Section):
    """A device that jobs run on; its slots share it. `torch`: what torch calls it, where not by its name."""

    name: Name
    slots: Count = 1
    memory_mb: Annotated[int, Field(strict=True, ge=0)] = 0
    torch: TorchDevice | Literal[""] = ""

    @model_validator(mode="after")
    def _is_a_device(self) -> Self:
        if not self.torch and re.fullmatch("auto|cpu|cuda(:[0-9]+)?", self.name) is None:
            raise ValueError(f"{self.name!r} is no device of torch's: say which is meant with torch")
        if self.torch and not self.memory_mb:
            raise ValueError("a device with torch needs memory_mb: its name is not one that could be asked")
        if self.name == CPU and self.memory_mb:
            raise ValueError("the memory of the CPU is that of the machine: workers.memory_mb")
        return self

    @property
    def of_torch(self) -> str:
        """What torch calls it."""
        return self.torch or self.name


class WorkersSection(_Section):
    """How many jobs run at a time, where, and on what."""

    slots: Count = 1
    executor: Literal["local", "ray"] = "local"
    device: TorchDevice = "auto"
    memory_mb: Annotated[int, Field(strict=True, ge=0)] = 0
    devices: tuple[DeviceEntry, ...] = ()
    lease_s: Seconds = 30.0
    start_limit_s: Seconds = 120.0
    recycle_after: Count = 100

    @model_validator(mode="after")
    def _are_told_apart(self) -> Self:
        names = [entry.name for entry in self.devices]
        for name in sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two devices are called {name!r}")
        return self

    @property
    def places(self) -> tuple[DeviceEntry, ...]:
        """The device of each slot of this machine, in the order of the slots."""
        devices = self.devices or (DeviceEntry(name=self.device, slots=self.slots),)
        return tuple(entry for entry in devices for _ in range(entry.slots))


RAY_WORKER_PORTS = range(10_002, 20_000)
"""Ray's own choice; its first machine does not start on one of them."""


class RaySection(_Section):
    """The Ray cluster where runs happen with `workers.executor = "ray"`, and this machine's part of it."""

    address: Annotated[str, Field(pattern=r"^(.+:[0-9]{1,5})?$")] = ""
    own_address: Address | Literal[""] = ""
    token_file: File = ""
    folder: Annotated[str, Field(max_length=40)] = "/tmp/ray"  # noqa: S108  Ray's own; sockets have short paths
    cpus: Amount = "auto"
    gpus: Amount = "auto"
    memory_mb: Amount = "auto"
    object_store_mb: Annotated[int, Field(strict=True, ge=80)] = 80
    slot_cpus: Annotated[float, Field(strict=True, gt=0)] = 1.0
    slot_gpus: NotNegative = 1.0
    slot_memory_mb: Amount = "auto"

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.address and not (self.own_address and self.token_file):
            raise ValueError("address needs own_address, where the others reach this machine, and token_file")
        if self.address and int(self.address.rpartition(":")[2]) in RAY_WORKER_PORTS:
            first, last = RAY_WORKER_PORTS[0], RAY_WORKER_PORTS[-1]
            raise ValueError(f"address has a port that Ray gives to its workers ({first} to {last})")
        return self

    @property
    def is_head(self) -> bool:
        """True on the machine that the others join."""
        return self.address.rpartition(":")[0].strip("[]") == str(self.own_address)


class JobsSection(_Section):
    """How often a job is tried."""

    attempts: Count = 3
    backoff_s: Seconds = 5.0


class DeliverySection(_Section):
    """How long results are offered to a destination."""

    backoff_s: Seconds = 5.0
    backoff_limit_s: Seconds = 900.0
    give_up_after_h: Seconds = 168.0
    lease_s: Seconds = 60.0
    confirm_checks: Count = 10
    report_wait_s: Annotated[float, Field(strict=True, ge=0)] = 5.0
    report_limit_s: Seconds = 900.0
    announce_to: tuple[AETitle, ...] = ()

    @property
    def give_up_after_s(self) -> float:
        """`give_up_after_h` in seconds."""
        return self.give_up_after_h * 3600


class PipelinesSection(_Section):
    """Where the pipelines lie."""

    folder: Path = Path("pipelines")


class ResultsSection(_Section):
    """What results say of their origin."""

    manufacturer: Name = "dicomnode"
    device_serial_number: Name = "1"
    research_only: Switch = True
    series_number: Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)] = 9100


class LogsSection(_Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class RetentionSection(_Section):
    """When local copies that are no longer needed leave; by default never, and what is needed stays."""

    interval_s: Seconds = 60.0
    minimum_age_h: Annotated[float, Field(strict=True, ge=0)] = 24.0
    age_days: Annotated[float, Field(strict=True, ge=0)] = 0.0
    quota_gb: Annotated[float, Field(strict=True, ge=0)] = 0.0
    disk_high_percent: Percent = 100.0
    disk_low_percent: Percent = 85.0
    unused: Switch = False

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.disk_low_percent > self.disk_high_percent:
            raise ValueError("disk_low_percent is above disk_high_percent")
        return self


class PeerTLSEntry(_Section):
    """How a peer is spoken to by TLS (PS3.15 B.12)."""

    ca: File = ""
    certificate: File = ""
    key: File = ""
    verify_host: Switch = True

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together")
        return self


class DimsePeer(_Section):
    """Where an application entity listens."""

    ae_title: AETitle
    host: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_host)]
    port: Annotated[int, Field(strict=True, ge=1, le=65535)]
    connect_timeout_s: Seconds = 10.0
    response_timeout_s: Seconds = 60.0
    tls: PeerTLSEntry | None = None

    @property
    def peer(self) -> Peer:
        """The same as the sender takes it."""
        tls = PeerTLS(**self.tls.model_dump()) if self.tls else None
        return Peer(self.ae_title, self.host, self.port, self.connect_timeout_s, self.response_timeout_s, tls)


class WebPeer(_Section):
    """A DICOMweb service. Its secret is never here: `secret_file`, or the environment, has it."""

    url: WebURL
    user: str = ""
    token_url: WebURL | Literal[""] = ""
    client_id: str = ""
    scope: str = ""
    secret_file: File = ""
    ca_file: File = ""
    connect_timeout_s: Seconds = 10.0
    response_timeout_s: Seconds = 60.0

    @model_validator(mode="after")
    def _one_way_to_authenticate(self) -> Self:
        if bool(self.token_url) != bool(self.client_id):
            raise ValueError("token_url and client_id belong together")
        if self.user and self.token_url:
            raise ValueError("either user, or token_url and client_id")
        return self


class Destination(_Section):
    """A receiver of results: by DIMSE, or by DICOMweb where `web` is given."""

    name: Name
    dimse: DimsePeer | None = None
    web: WebPeer | None = None
    confirm: Literal["find", "commitment", "qido", "none"] = "find"
    profile: Name = "generic"

    @model_validator(mode="after")
    def _has_a_secret_of_its_own(self) -> Self:
        if self.secret_variable == OBJECTS_SECRET:
            raise ValueError(f"{OBJECTS_SECRET} is the secret of [objects]: call it something else")
        return self

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.dimse is None and self.web is None:
            raise ValueError("has neither dimse nor web")
        if self.confirm == "qido" and self.web is None:
            raise ValueError('confirm = "qido" asks by web, which is not given')
        if self.confirm in ("find", "commitment") and self.dimse is None:
            raise ValueError(f'confirm = "{self.confirm}" asks by dimse, which is not given')
        return self

    @property
    def secret_variable(self) -> str:
        """The environment variable for the secret of `web`."""
        return SECRET_PREFIX + re.sub(r"[^A-Z0-9]", "_", self.name.upper())


class Route(_Section):
    """A rule that sends complete series to a pipeline, and its results to destinations."""

    name: Name
    when: str
    pipeline: Name
    send_to: tuple[Name, ...] = ()
    priority: Priority = Priority.ROUTINE
    on_match: Literal["continue", "stop"] = "continue"
    notice: Switch = True
    deadline_s: NotNegative = 0.0
    hold: Switch = False


class LimitEntry(_Section):
    """How much of a pipeline, or of a route, may run."""

    pipeline: Annotated[str, Field(max_length=64)] = ""
    route: Annotated[str, Field(max_length=64)] = ""
    at_once: Annotated[int, Field(strict=True, ge=0)] = 0
    seconds_an_hour: NotNegative = 0.0

    @model_validator(mode="after")
    def _is_of_one(self) -> Self:
        if bool(self.pipeline) == bool(self.route):
            raise ValueError("a limit is either of a pipeline or of a route")
        return self

    @property
    def limit(self) -> Limit:
        """The same as the queue takes it: 0 is no limit."""
        lane = (PauseKind.ROUTE, self.route) if self.route else (PauseKind.PIPELINE, self.pipeline)
        return Limit(lane, self.at_once or None, self.seconds_an_hour or None)


class Config(_Section):
    """The whole of `config.toml`."""

    node: NodeSection = NodeSection()
    database: DatabaseSection = DatabaseSection()
    objects: ObjectsSection = ObjectsSection()
    dimse: DimseSection = DimseSection()
    web: WebSection = WebSection()
    ingest: IngestSection = IngestSection()
    completion: CompletionSection = CompletionSection()
    priors: PriorsSection = PriorsSection()
    workers: WorkersSection = WorkersSection()
    ray: RaySection = RaySection()
    jobs: JobsSection = JobsSection()
    delivery: DeliverySection = DeliverySection()
    pipelines: PipelinesSection = PipelinesSection()
    results: ResultsSection = ResultsSection()
    retention: RetentionSection = RetentionSection()
    logs: LogsSection = LogsSection()
    profile: dict[Name, Profile] = {}
    peer: tuple[DimsePeer, ...] = ()
    destination: tuple[Destination, ...] = ()
    route: tuple[Route, ...] = ()
    limit: tuple[LimitEntry, ...] = ()
    _file: Path = PrivateAttr(Path("config.toml"))

    def model_post_init(self, context: Any) -> None:
        """Keep where the settings were read."""
        if context is not None:
            self._file = context["file"]

    @property
    def file(self) -> Path:
        """Where the settings were read: a mistake that comes to light later is named with it, too."""
        return self._file

    @model_validator(mode="after")
    def _names_point_to_something(self) -> Self:
        for kind, entries in (("destination", self.destination), ("route", self.route)):
            names = [entry.name for entry in entries]
            for name in sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"two {kind}s are called {name!r}")
        titles = [entry.ae_title for entry in self.peer]
        for title in sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"two peers are called {title!r}")
        profiles = [*PROFILES, *self.profile]
        for number, profile in enumerate((entry.profile for entry in self.destination), start=1):
            if profile not in profiles:
                hint = _nearest(profile, profiles)
                raise ValueError(f"destination[{number}].profile is {profile!r}, which is none{hint}")
        known = [destination.name for destination in self.destination]
        for number, route in enumerate(self.route, start=1):
            for name in route.send_to:
                if name not in known:
                    hint = _nearest(name, known)
                    raise ValueError(f"route[{number}].send_to has {name!r}, which is no destination{hint}")
        return self

    @model_validator(mode="after")
    def _limits_what_there_is(self) -> Self:
        known = [route.name for route in self.route]
        for number, route in enumerate((entry.route for entry in self.limit), start=1):
            if route and route not in known:
                hint = _nearest(route, known)
                raise ValueError(f"limit[{number}].route is {route!r}, which is none{hint}")
        return self

    @model_validator(mode="after")
    def _has_a_cluster(self) -> Self:
        if self.workers.executor == "ray" and not self.ray.address:
            raise ValueError('workers.executor = "ray" needs ray.address')
        return self

    @model_validator(mode="after")
    def _can_announce(self) -> Self:
        for title in self.delivery.announce_to:
            if self.peer_named(title) is None:
                raise ValueError(f"delivery.announce_to has {title!r}, for which there is no [[peer]]")
        return self

    @model_validator(mode="after")
    def _can_ask(self) -> Self:
        known = [*(entry.name for entry in self.destination), *(entry.ae_title for entry in self.peer)]
        for key, name in (("completion", self.completion.ask), ("priors", self.priors.ask)):
            if name and name not in known:
                hint = _nearest(name, known)
                raise ValueError(f"{key}.ask is {name!r}, which is no destination and no [[peer]]{hint}")
        return self

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits as the queue takes them; those that limit nothing are none."""
        limits = (entry.limit for entry in self.limit)
        return tuple(each for each in limits if (each.at_once, each.seconds_an_hour) != (None, None))

    def asked(self, name: str) -> Peer | None:
        """Who is asked by DIMSE, where `completion.ask` or `priors.ask` is `name`."""
        entry = self.destination_named(name)
        if entry is not None:
            return entry.dimse.peer if entry.dimse is not None else None
        return next((peer.peer for peer in self.peer if peer.ae_title == name), None)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL; SQLite in the data folder where none is set."""
        return self.database.url or f"sqlite:///{self.node.data / 'dicomnode.sqlite3'}"

    def profile_of(self, destination: str) -> Profile:
        """In which form the destination of that name takes results."""
        entry = self.destination_named(destination)
        found = self.profile_named(entry.profile) if entry is not None else None
        return found or PROFILES["generic"]

    def profile_named(self, name: str) -> Profile | None:
        """A profile of the configuration, or one of those that dicomnode has; None where there is neither."""
        return self.profile.get(name) or PROFILES.get(name)

    def peer_named(self, ae_title: str) -> Peer | None:
        """Where the application entity of that title listens: a `[[peer]]`, or else a destination."""
        known = [*self.peer, *(entry.dimse for entry in self.destination if entry.dimse is not None)]
        return next((entry.peer for entry in known if entry.ae_title == ae_title), None)

    def destination_named(self, name: str) -> Destination | None:
        """The destination of that name; None where the configuration no longer has it."""
        return next((entry for entry in self.destination if entry.name == name), None)


def load_config(file: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read `file`, lay `DICOMNODE_<SECTION>_<KEY>` of the environment over it, and check all of it.

    Relative folders are relative to the file. Raises ConfigError with every problem found.
    """
    environment = os.environ if environment is None else environment
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(file, [f"cannot be read: {error}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, [f"is not TOML: {error}"]) from None
    _overlay(settings, environment)
    base = file.resolve().parent
    try:
        config = Config.model_validate(settings, context={"folder": base, "file": file})
    except ValidationError as error:
        raise ConfigError(file, describe_problems(error, Config)) from None
    return config.model_copy(
        update={
            "node": config.node.model_copy(update={"data": base / config.node.data}),
            "pipelines": config.pipelines.model_copy(update={"folder": base / config.pipelines.folder}),
        }
    )


def _overlay(settings: dict[str, Any], environment: Mapping[str, str]) -> None:
    known = {
        f"{ENVIRONMENT_PREFIX}{section}_{key}".upper(): (section, key)
        for section, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section)
        for key in field.annotation.model_fields
    }
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable.startswith(SECRET_PREFIX):
            continue
        if variable == FILE_VARIABLE:
            continue
        if variable not in known:
            raise ConfigError(
                "environment", [f"{variable}: no such setting{_nearest(variable, list(known))}"]
            )
        section, key = known[variable]
        settings.setdefault(section, {})[key] = _literal(text)


def _literal(text: str) -> Any:
    """Numbers and switches as TOML writes them; everything else is text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, (bool, int, float)) else text


def describe_problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line a problem: the key as it is written in TOML, what is wrong, and the nearest known key."""
    return [_describe(problem, model) for problem in error.errors(include_url=False, include_input=False)]


def _describe(problem: ErrorDetails, model: type[BaseModel]) -> str:
    location = tuple(problem["loc"])
    key = _written(location)
    if problem["type"] == "extra_forbidden":
        return f"{key}: no such key{_nearest(str(location[-1]), _keys_at(model, location[:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _written(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in location:
        if isinstance(part, str) and isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[part].annotation if part in current.model_fields else None
        elif get_origin(current) is dict:
            current = get_args(current)[1]
        elif isinstance(part, int):
            current = next(iter(getattr(current, "__args__", ())), None)
        if isinstance(current, UnionType):
            current = get_args(current)[0]
    is_model = isinstance(current, type) and issubclass(current, BaseModel)
    return list(current.model_fields) if is_model else []


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
