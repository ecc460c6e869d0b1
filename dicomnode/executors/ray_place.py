"""What a slot has on the machine of a cluster where its runs happen: the life of an actor."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog

from dicomnode import __version__
from dicomnode.config import FILE_VARIABLE, load_config
from dicomnode.errors import DicomnodeError, DiskFailed, RunFailed, StorageFailed
from dicomnode.installation import open_objects, open_registry
from dicomnode.logs import configure_logs
from dicomnode.services.running import LocalExecutor, Made, RunOrder
from dicomnode.services.scratch import scratch_folder

log = structlog.get_logger()


class Place:
    """One run at a time, as on this machine alone; it can be cut meanwhile.

    Reads the config.toml, the pipelines and the objects of its own machine. Raises ConfigError.
    """

    def __init__(self) -> None:
        config = load_config(Path(os.environ[FILE_VARIABLE]))
        configure_logs(config.logs.level, config.logs.format, process="ray")
        scratch = scratch_folder(config.node.data, "ray")
        self._executor = LocalExecutor(open_objects(config), open_registry(config), config.workers, scratch)
        self._cut = set[str]()
        # A child ends with the thread that started it: one that lives as long as this process.
        self._thread = ThreadPoolExecutor(1, "run")

    async def version(self) -> str:
        """Of the dicomnode that is installed here."""
        return __version__

    async def ready(self) -> bool:
        """False while the object store is away."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._executor.ready)

    async def run(self, key: str, order: RunOrder) -> Made | DicomnodeError:
        """What came of it. An error is an answer, too: one that is raised would come back as one of Ray's."""
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, partial(self._run, key, order)
            )
        finally:
            self._cut.discard(key)

    async def cut(self, key: str) -> None:
        """End that run as soon as can be."""
        self._cut.add(key)

    async def close(self) -> None:
        """End the model's process, and leave nothing of it."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._executor.close)

    def _run(self, key: str, order: RunOrder) -> Made | DicomnodeError:
        try:
            return self._executor.run(order, lambda: key in self._cut)
        except DiskFailed as error:
            # This machine's disk, not that of the slot, which would start again for it.
            return StorageFailed(str(error))
        except DicomnodeError as error:
            return error
        except Exception as error:  # the edge of a run: recorded here, and a failed attempt there
            log.exception("run.failed", pipeline=order.pipeline)
            return RunFailed(type(error).__name__, "the machine that ran it")
