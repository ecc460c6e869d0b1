"""Every system call of an ingest fails once: nothing acknowledged is lost, no failure passes for success."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pytest

from dicomnode.config import load_config
from dicomnode.dimse.status import STATUS
from dicomnode.errors import StorageFailed, StorageFull
from dicomnode.installation import Stores, open_stores
from dicomnode.model.instance import Received
from dicomnode.services.ingest import Ingest
from dicomnode.services.recovery import recover
from dicomnode.supervisor import EXIT_DISK
from tests.conftest import NOT_RUN_HERE
from tests.faults.memory import memory_folder
from tests.faults.strace_child import take_in
from tests.faults.test_power_loss import digest_of, rows_of
from tests.harness.heads import small_series
from tests.services.test_ingest import received

CALLS = {
    "write": "write,pwrite64,writev,ftruncate,fallocate",
    "sync": "fsync,fdatasync",
    "rename": "rename,renameat,renameat2,link,linkat,unlink,unlinkat",
    "open": "open,openat,creat",
}
OUT_OF_SPACE = {STATUS[StorageFull], STATUS[StorageFailed]}
LONGEST = 400


@dataclass(frozen=True)
class Run:
    """What one process answered, how it ended, and which of its calls failed."""

    answers: Mapping[str, int]
    exit_status: int
    injected: Sequence[str]


@pytest.fixture(scope="module")
def forkserver():
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.strace_child"])
    return context


@pytest.fixture
def config() -> Iterator[Path]:
    with memory_folder() as folder:
        config = folder / "config.toml"
        config.write_text('[node]\ndata = "data"\nminimum_free_mb = 1\n')
        stores = opened(config)
        stores.database.upgrade()
        stores.database.close()
        yield config


def opened(config: Path) -> Stores:
    return open_stores(load_config(config, {}))


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("calls", CALLS)
def test_every_call_may_fail(calls: str, error: str, config: Path, forkserver) -> None:
    kept: dict[str, str] = {}
    for when in itertools.count(1):
        assert when < LONGEST
        old, alone, first, second = came = [received(ds) for ds in small_series(4)]
        # What was acknowledged comes once more, alone and in a batch.
        run = failing(forkserver, config, calls, error, when, [old], [alone, old], [first, old, second])
        kept[old.SOPInstanceUID] = digest_of(old)
        kept |= {uid: digest_of(each) for each in came if run.answers.get(uid := each.SOPInstanceUID) == 0}
        where = f"{calls} {when}: {run.injected}"
        assert set(run.answers.values()) <= {0, *OUT_OF_SPACE}, where
        if calls == "sync" and run.injected:
            assert run.exit_status == EXIT_DISK, where
        check(config, kept, came, where)
        if not run.injected:
            assert when > 2
            assert run.exit_status == 0
            assert len(run.answers) == len(came)
            return


def failing(
    forkserver,
    config: Path,
    calls: str,
    error: str,
    when: int,
    before: list[Received],
    alone: list[Received],
    together: list[Received],
) -> Run:
    """Take these in while the `when`-th of these calls, in each thread, fails with that error."""
    if (strace := shutil.which("strace")) is None:
        pytest.skip(f"{NOT_RUN_HERE}strace")
    ours, its = socket.socketpair()
    child = forkserver.Process(target=take_in, args=(config, before, alone, together, its))
    child.start()
    its.close()
    said = ours.makefile("rb")
    assert said.readline() == b"ready\n"
    log = config.with_name("strace")
    inject = ["-e", f"trace={CALLS[calls]}", "-e", f"inject={CALLS[calls]}:error={error}:when={when}"]
    command = [strace, "-f", "-y", "-p", str(child.pid), "-o", str(log), *inject]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        attached = "attached" in tracer.stderr.readline()
        ours.sendall(b"!")
        answers = dict(json.loads(line) for line in said)
        child.join(30)
        tracer.communicate(timeout=30)
    ours.close()
    if not attached:
        pytest.skip(f"{NOT_RUN_HERE}the right to trace a process (ptrace)")
    injected = [line for line in log.read_text().splitlines() if "(INJECTED)" in line]
    assert child.exitcode is not None
    return Run(answers, child.exitcode, injected)


def check(config: Path, kept: Mapping[str, str], came: Sequence[Received], where: str) -> None:
    """Start again: what was acknowledged is there, nothing is promised falsely, what was not can be sent."""
    stores = opened(config)
    try:
        recover(stores.database, stores.objects)
        rows = rows_of(stores)
        assert kept.items() <= rows.items(), where
        assert all(stores.objects.intact(rows[each]) for each in kept), where
        ingest = Ingest(stores.database, stores.objects)
        for each in came:
            ingest.store(each)
            assert stores.objects.intact(digest_of(each)), where
        with stores.database.read() as tx:
            assert tx.exec_driver_sql("PRAGMA quick_check").scalar_one() == "ok", where
    finally:
        stores.database.close()
