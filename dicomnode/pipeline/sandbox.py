"""What a child gives up before it loads a bundle's code. Linux; what the kernel refuses is reported.

The child gets namespaces of its own for users, network and processes, and can open only the files that a
run needs: not the database, not the configuration. Where the kernel has neither, it still has a session of
its own, a bare environment, and dies with its parent.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import dicomnode
from dicomnode.pipeline.landlock import restrict

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_PASSED = frozenset(
    {"PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "VIRTUAL_ENV"}
    | {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
)
_PASSED_PREFIX = "NVIDIA_"
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/opt", "/proc", "/sys"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"),
)


@dataclass(frozen=True, slots=True)
class Isolation:
    """Whether the process is without a network and without the node's files, and if not, why."""

    isolated: bool
    why: str = ""


def child_environment(environment: Mapping[str, str], scratch: Path, code: Path) -> dict[str, str]:
    """What a child may see of `environment`; `code` is the folder that holds the package dicomnode."""
    passed = {
        name: value
        for name, value in environment.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIX)
    }
    folders = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(scratch))
    return {
        **passed,
        **folders,
        "PYTHONPATH": str(code),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def enter(parent: int, scratch: Path, readable: tuple[Path, ...], keep: tuple[int, ...]) -> Isolation:
    """Give up what a bundle does not need; returns in the process that is to run it.

    It can write to `scratch` and to devices, and read those, `readable`, Python and the system's libraries.
    `keep` are the descriptors beyond 0, 1 and 2 that stay open. Must be called before any thread is started.
    """
    os.umask(0o077)
    os.chdir(scratch)
    _close_all_but(keep)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prefer_as_victim()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    isolation, own_processes = _unshare(libc)
    # After the namespaces: a change of credentials clears the signal.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    refusal = restrict([*readable, *_system_paths()], [scratch, Path("/dev")])
    if own_processes:
        _become_first_process(libc, keep)
    why = "; ".join(filter(None, (isolation.why, refusal)))
    return Isolation(not why, why)


def _system_paths() -> Iterator[Path]:
    """Where Python, what it imports, and the libraries below it lie.

    Not the folder that holds the package: in a checkout, that is where the node keeps its data.
    """
    code = Path(dicomnode.__file__).parent
    yield code
    yield from (Path(sys.prefix), Path(sys.base_prefix))
    yield from (Path(entry) for entry in sys.path if entry and Path(entry) != code.parent)
    yield from map(Path, _SYSTEM)


def _close_all_but(keep: tuple[int, ...]) -> None:
    limit = os.sysconf("SC_OPEN_MAX")
    for below, above in pairwise(sorted((2, *keep, limit))):
        os.closerange(below + 1, above)


def _prefer_as_victim() -> None:
    """When memory runs out the kernel shall end the bundle and not the node."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


def _unshare(libc: ctypes.CDLL) -> tuple[Isolation, bool]:
    user, group = os.geteuid(), os.getegid()
    # With a user namespace the child loses every capability outside, and sight of the parent's memory.
    for flags in (
        _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWPID,
        _CLONE_NEWNET | _CLONE_NEWPID,
        _CLONE_NEWNET,
    ):
        if libc.unshare(flags) == 0:
            if flags & _CLONE_NEWUSER:
                Path("/proc/self/setgroups").write_text("deny")
                Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
                Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
            return Isolation(True), bool(flags & _CLONE_NEWPID)
    name = errno.errorcode.get(ctypes.get_errno(), "an unknown error")
    return Isolation(False, f"the kernel refused a network namespace ({name})"), False


def _become_first_process(libc: ctypes.CDLL, keep: tuple[int, ...]) -> None:
    """Go on in the first process of the new namespace: when that ends, all that it started end too."""
    inner = os.fork()
    if inner == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    for descriptor in (0, 1, 2, *keep):
        os.close(descriptor)
    status = os.waitpid(inner, 0)[1]
    if os.WIFSIGNALED(status):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def claim_pipes() -> tuple[int, int]:
    """Take the contract's pipes from 0 and 1, so that a bundle that prints does not speak to the parent.

    Returns the descriptors of orders and replies; 0 is then empty and 1 goes where 2 goes.
    """
    orders, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    return orders, replies
