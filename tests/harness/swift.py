"""An S3 store of our own: OpenStack Swift with its S3 API, one copy of each object, in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import httpx
import obstore
from obstore.store import S3Store

from dicomnode.store.bucket import BucketSettings
from dicomnode.supervisor import die_with_parent

ACCESS_KEY, SECRET = "test:tester", "testing"
_START_LIMIT_S = 60.0
_SERVERS = ("account", "container", "object", "proxy")
_PIPELINE = "catch_errors gatekeeper cache s3api tempauth bulk slo proxy-server"
_FILTERS = ("catch_errors", "gatekeeper", "bulk", "slo")


@dataclass
class SwiftServer:
    """A running Swift; `pause` makes it silent, `refuse` has it take no connections."""

    folder: Path
    ports: Mapping[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """Where its S3 API is."""
        return f"http://127.0.0.1:{self.ports['proxy']}"

    def settings(self, bucket: str, *, timeout_s: float = 10.0) -> BucketSettings:
        """The bucket, as a node takes it."""
        return BucketSettings(
            bucket, endpoint=self.endpoint, access_key=ACCESS_KEY, secret=SECRET, timeout_s=timeout_s
        )

    def environment(self, bucket: str, *, timeout_s: float = 3.0) -> dict[str, str]:
        """`[objects]` of a node that keeps its objects in this bucket."""
        return {
            "DICOMNODE_OBJECTS_URL": f"s3://{bucket}",
            "DICOMNODE_OBJECTS_ENDPOINT": self.endpoint,
            "DICOMNODE_OBJECTS_ACCESS_KEY": ACCESS_KEY,
            "DICOMNODE_OBJECTS_SECRET_FILE": str(self.folder / "secret"),
            "DICOMNODE_OBJECTS_TIMEOUT_S": str(timeout_s),
        }

    def store(self, bucket: str) -> S3Store:
        """The bucket as others than the node see it."""
        return S3Store(
            bucket,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )

    def make_bucket(self, name: str) -> str:
        """An empty bucket; returns its name."""
        url = obstore.sign(self.store(name), "PUT", "", timedelta(minutes=1))
        httpx.put(url, timeout=30).raise_for_status()
        return name

    def start(self, *names: str) -> None:
        """Start these servers, or all; wait until they answer. They end with the thread that calls this."""
        for name in names or _SERVERS:
            with (self.folder / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [_program(f"swift-{name}-server"), str(self.folder / f"{name}.conf"), "--verbose"],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509  one call of the kernel
                )
        for name in names or _SERVERS:
            self._wait_for(name)

    def stop(self, *names: str) -> None:
        """SIGKILL to these servers, or to all."""
        for name in names or tuple(self.processes):
            process = self.processes.pop(name)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)

    def refuse(self) -> None:
        """From now on nobody takes a connection, until `start("proxy")`."""
        self.stop("proxy")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Connections are taken, and nothing is answered, while the block runs."""
        process = self.processes["proxy"]
        os.killpg(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGCONT)

    def _wait_for(self, name: str) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.ports[name])) == 0:
                    return
            log = self.folder / f"{name}.log"
            assert self.processes[name].poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, f"swift-{name}-server does not answer"
            time.sleep(0.02)


def swift_is_here() -> bool:
    """True where Swift can be run: the package, and liberasurecode from Debian's."""
    if find_spec("swift") is None or not Path(_program("swift-proxy-server")).exists():
        return False
    done = subprocess.run(
        [sys.executable, "-c", "import pyeclib.ec_iface"], capture_output=True, check=False, timeout=60
    )
    return done.returncode == 0


@contextmanager
def running_swift() -> Iterator[SwiftServer]:
    """A Swift with nothing in it, on ports of its own."""
    folder = Path(tempfile.mkdtemp(prefix="swift-"))
    server = SwiftServer(folder, _free_ports())
    try:
        _configure(server)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _free_ports() -> dict[str, int]:
    """They have to be known before the servers start: each knows the others'."""
    probes = {name: socket.socket() for name in _SERVERS}
    try:
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {name: int(probe.getsockname()[1]) for name, probe in probes.items()}
    finally:
        for probe in probes.values():
            probe.close()


def _configure(server: SwiftServer) -> None:
    (server.folder / "disks" / "d1").mkdir(parents=True)
    (server.folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    for name in ("account", "container", "object"):
        (server.folder / f"{name}.conf").write_text(
            f"{_common(server, name)}mount_check = false\ndevices = {server.folder / 'disks'}\n"
            "disable_fallocate = true\nfallocate_reserve = 0\n"
            f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
        )
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in _FILTERS)
    (server.folder / "proxy.conf").write_text(
        f"{_common(server, 'proxy')}[pipeline:main]\npipeline = {_PIPELINE}\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
        f"{filters}"
        # Nobody listens there: what it would remember is asked for each time.
        "[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:1\n"
        "[filter:s3api]\nuse = egg:swift#s3api\nlocation = us-east-1\n"
        "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = testing .admin\n"
    )
    (server.folder / "secret").write_text(SECRET)
    _make_rings(server)


def _common(server: SwiftServer, name: str) -> str:
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    return (
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {server.ports[name]}\nworkers = 0\n"
        f"swift_dir = {server.folder}\nuser = {user}\nlog_name = {name}\n"
    )


def _make_rings(server: SwiftServer) -> None:
    """Where objects go: all of them to the one device."""
    lines = "".join(
        f"b = RingBuilder(2, 1, 1)\n"
        f"b.add_dev(dict(id=0, region=1, zone=1, weight=1, ip='127.0.0.1', port={server.ports[name]}, "
        f"device='d1', replication_ip='127.0.0.1', replication_port={server.ports[name]}, meta=''))\n"
        f"b.rebalance()\n"
        f"b.get_ring().save({str(server.folder / f'{name}.ring.gz')!r})\n"
        for name in ("account", "container", "object")
    )
    script = f"from swift.common.ring import RingBuilder\n{lines}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True)
