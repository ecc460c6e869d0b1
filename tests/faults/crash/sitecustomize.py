"""Kills the whole node at a named call; found by Python because the tests put this folder on PYTHONPATH.

CRASH_AT is `module:function:when:n`, with `when` before or after: at the n-th call of that function in one
process, the node's process group gets SIGKILL. The function may be a method: `Class.method`.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import itertools
import os
import signal
import sys
from types import ModuleType
from typing import Any


def _kill_node() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _wrapped(function: Any, when: str, nth: int) -> Any:
    calls = itertools.count(1)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        reached = next(calls) == nth
        if reached and when == "before":
            _kill_node()
        value = function(*args, **kwargs)
        if reached:
            _kill_node()
        return value

    return wrapper


def _arm(module: ModuleType, path: str, when: str, nth: int) -> None:
    *owners, name = path.split(".")
    owner: Any = module
    for each in owners:
        owner = getattr(owner, each)
    setattr(owner, name, _wrapped(getattr(owner, name), when, nth))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, path: str, when: str, nth: int) -> None:
        self._module, self._arming = module, (path, when, nth)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            _arm(module, *self._arming)

        spec.loader.exec_module = exec_module
        return spec


if "CRASH_AT" in os.environ:
    _module, _path, _when, _nth = os.environ["CRASH_AT"].split(":")
    sys.meta_path.insert(0, _Finder(_module, _path, _when, int(_nth)))
